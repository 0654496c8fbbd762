"""Event logs: in memory, from files, cleaned."""
