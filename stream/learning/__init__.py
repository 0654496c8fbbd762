"""The trainer: the log it reads, when it fits, what it publishes."""
