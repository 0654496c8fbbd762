"""What a worker's partitions count, as Prometheus reads it."""

from __future__ import annotations

from stream.health.health import Health, PartitionHealth
from stream.health.metrics import Metrics
from stream.pipeline.outbox import Counters


def test_late_events_beyond_the_overflow_have_a_counter() -> None:
    counters = Counters(consumed=9, accepted=2, late=7, overflow=5)
    partition = PartitionHealth(partition=3, state="open", step="", counters=counters)
    report = Health(
        ready=True, phase="running", worker="w", model="m", partitions=(partition,), problems=()
    )
    lines = Metrics().text(report).decode().splitlines()
    assert 'intentstream_events_total{outcome="late",partition="3"} 7.0' in lines
    assert 'intentstream_overflow_events_total{partition="3"} 5.0' in lines
