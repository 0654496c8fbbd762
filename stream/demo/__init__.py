"""The whole engine on real events in two minutes: broker, replay, trainer, worker, outcomes."""
