"""The `intentstream` command; each group of commands is imported when it is used."""
