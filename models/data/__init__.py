"""An event log -> labelled, point-in-time windows, split by time."""
