"""What a worker measures, for Prometheus.

Totals, lag and model are read from the partitions when somebody asks; only what is lost otherwise
(how long things take, how large batches are) is noted as it happens, once per micro-batch.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from stream.pipeline.outbox import Counters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from models.serving.thresholds import InEffect
from stream.config.durations import HOUR_MS
from stream.health.health import Health

_BATCH = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The histograms of one worker, and its registry."""

    def __init__(self) -> None:
        """Register everything anew: nothing is shared between workers."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._batch = Histogram(
            "intentstream_batch_records",
            "Records of a micro-batch.",
            ["partition"],
            buckets=_BATCH,
            registry=self.registry,
        )
        self._stage = Histogram(
            "intentstream_stage_seconds",
            "Time of one passage: compute, drain, transaction, store.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._commit = Histogram(
            "intentstream_commit_seconds",
            "From the end of computing to the acknowledgement.",
            ["partition"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._delay = Histogram(
            "intentstream_delay_seconds",
            "From the broker's time of a batch's first record to its commit; behind by design"
            " while a backlog is worked off.",
            ["partition"],
            buckets=(*_SECONDS, 60, 300, 3600),
            registry=self.registry,
        )

    def batch(self, partition: int, records: int) -> None:
        """Note the size of a micro-batch."""
        self._batch.labels(partition).observe(records)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note how long the block takes."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._stage.labels(name).observe(time.perf_counter() - begun)

    def commit(self, partition: int, seconds: float, delays: Iterable[float]) -> None:
        """Note a commit and the delay of each micro-batch in it, seconds."""
        self._commit.labels(partition).observe(seconds)
        delay = self._delay.labels(partition)
        for value in delays:
            delay.observe(value)

    def text(self, report: Health) -> bytes:
        """Everything in the Prometheus text format, with the state of now as in `report`."""
        return generate_latest(self.registry) + generate_latest(_Now(report))


class _Now(Collector):
    """A health report as metrics."""

    def __init__(self, report: Health) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        report = self._report
        yield GaugeMetricFamily(
            "intentstream_ready", "1 when all is well.", value=float(report.ready)
        )
        yield InfoMetricFamily(
            "intentstream_worker",
            "Who this is and what it serves.",
            value={"worker": report.worker, "model": report.model},
        )
        yield from _threshold(report.raise_at)
        events = CounterMetricFamily(
            "intentstream_events",
            "Records since the state began, committed, by what became of them.",
            labels=["partition", "outcome"],
        )
        sent = CounterMetricFamily(
            "intentstream_messages", "Messages written, committed.", labels=["partition", "kind"]
        )
        lost = CounterMetricFamily(
            "intentstream_lost_records",
            "Offsets that retention deleted before they were read, since the state began.",
            labels=["partition"],
        )
        overflow = CounterMetricFamily(
            "intentstream_overflow_events",
            "Of the late events those within the grace, beyond state.overflow of their user.",
            labels=["partition"],
        )
        gauges = {
            "blocked": GaugeMetricFamily(
                "intentstream_blocked",
                "1 while an open transaction of a producer keeps records back.",
                labels=["partition"],
            ),
            "lag": GaugeMetricFamily(
                "intentstream_lag_records", "Records not yet committed.", labels=["partition"]
            ),
            "offset": GaugeMetricFamily(
                "intentstream_offset", "Next offset to process.", labels=["partition"]
            ),
            "open": GaugeMetricFamily(
                "intentstream_partition_open", "0 while it is restored.", labels=["partition"]
            ),
            "watermark": GaugeMetricFamily(
                "intentstream_watermark_seconds",
                "Greatest event time seen, since the epoch.",
                labels=["partition"],
            ),
        }
        skewed = CounterMetricFamily(
            "intentstream_skewed_events",
            "Events whose time lies hours ahead of, or behind, their Kafka timestamp.",
            labels=["partition", "way"],
        )
        zones = CounterMetricFamily(
            "intentstream_zone_skewed_events",
            "Of these, events that are off by a time zone: local time written as UTC.",
            labels=["partition", "hours"],
        )
        kinds = CounterMetricFamily(
            "intentstream_skewed_types",
            "Skewed events by type, which tells the producers of a shop apart.",
            labels=["partition", "type"],
        )
        amounts = CounterMetricFamily(
            "intentstream_foreign_amounts",
            "Events whose amount came in another currency than the shop's; unpriced ones do not"
            " count, because there is no rate.",
            labels=["partition", "currency", "outcome"],
        )
        drift = GaugeMetricFamily(
            "intentstream_input_stability",
            "Population stability index of a model input against its training; 0.25 is severe.",
            labels=["partition", "feature"],
        )
        for partition in report.partitions:
            number = str(partition.partition)
            counters = partition.counters or Counters()
            for name, index in partition.stability.items():
                drift.add_metric([number, name], index)
            for outcome in ("accepted", "duplicate", "late", "invalid"):
                events.add_metric([number, outcome], getattr(counters, outcome))
            for way in ("ahead", "behind"):
                skewed.add_metric([number, way], getattr(counters, way))
            hours = {f"{offset / HOUR_MS:g}": n for offset, n in counters.offsets.items()}
            for family, figures, more in (
                (zones, hours, []),
                (kinds, counters.skewed, []),
                (amounts, counters.currencies, ["counted"]),
                (amounts, counters.unpriced, ["unpriced"]),
            ):
                for name, count in figures.items():
                    family.add_metric([number, name, *more], count)
            for kind in ("predictions", "alerts"):
                sent.add_metric([number, kind], getattr(counters, kind))
            lost.add_metric([number], counters.lost)
            overflow.add_metric([number], counters.overflow)
            gauges["blocked"].add_metric([number], float(partition.blocked_at is not None))
            gauges["open"].add_metric([number], float(partition.state == "open"))
            if partition.counters is not None:
                gauges["lag"].add_metric([number], partition.lag)
                gauges["offset"].add_metric([number], partition.offset)
                gauges["watermark"].add_metric([number], partition.watermark / 1000)
        yield events
        yield sent
        yield skewed
        yield zones
        yield kinds
        yield lost
        yield overflow
        yield amounts
        yield drift
        yield from gauges.values()


def _threshold(found: InEffect | None) -> Iterator[Metric]:
    """From which risk on alerts are raised."""
    if found is None:
        return
    threshold = GaugeMetricFamily(
        "intentstream_alert_threshold",
        "Risk from which on churn alerts are raised; by: setting, precision or budget.",
        labels=["by"],
    )
    threshold.add_metric([found.by], found.risk)
    yield threshold
    if found.per_day is not None:
        yield GaugeMetricFamily(
            "intentstream_expected_alerts_per_day",
            "Churn alerts a day of the whole shop in the treatment arm, by the days of"
            " which the threshold was learnt.",
            value=found.per_day,
        )
