"""The contract of an architecture, as checks for those who write one."""
