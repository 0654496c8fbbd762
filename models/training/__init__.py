"""From an event log to a model that may be published."""
