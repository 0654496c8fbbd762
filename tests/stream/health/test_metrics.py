"""What a worker's partitions count, as Prometheus reads it."""

from __future__ import annotations

from models.serving.thresholds import InEffect
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


def test_threshold_and_expected_alerts_are_gauges() -> None:
    report = Health(
        ready=True,
        phase="running",
        worker="w",
        model="m",
        partitions=(),
        problems=(),
        raise_at=InEffect(0.61, "budget", 4.8),
    )
    lines = Metrics().text(report).decode().splitlines()
    assert 'intentstream_alert_threshold{by="budget"} 0.61' in lines
    assert "intentstream_expected_alerts_per_day 4.8" in lines
