"""The engine: events flow from Kafka through state and scorer to predictions and alerts."""
