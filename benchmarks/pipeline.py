"""The pipeline without Kafka: what bounds the whole from above.

One partition in one process over a store in memory: decoding, state, scoring, and the encoding of
outputs and changelog. On the wall clock, as a worker that catches up.
"""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence

from benchmarks.contestants import RING
from benchmarks.log import LogPlan, rows
from benchmarks.measures import Measure
from benchmarks.model import scorer
from benchmarks.part import Bench, Raw
from models.networks import ARCHITECTURES
from models.serving.scorer import Scorer
from stream.config.settings import Settings
from stream.testing import PipelineDriver

NAME = "pipeline"
BATCH = 4096
OTHERS_SHARE = 8
"""Of the events, one in this many for architectures other than the benchmark's."""
MEASURES = tuple(
    Measure(
        f"pipeline_{name}_events_per_second",
        "events/s",
        f"one partition without Kafka, {name}",
    )
    for name in sorted(ARCHITECTURES)
)

Records = list[tuple[bytes | None, bytes | None, int]]


def events_per_second(model: Scorer, records: Records) -> float:
    """Run the records through a new pipeline; what it decides is part of the work."""
    settings = Settings(worker={"clock": "wall", "emit": "every"}, state={"ring": RING})
    driver = PipelineDriver(model, settings)
    begun = time.perf_counter()
    driver.pipe_raw(records, BATCH)
    took = time.perf_counter() - begun
    if driver.pipeline.counters.accepted != len(records):
        raise SystemExit(f"the pipeline refused events: {driver.pipeline.counters}")
    return len(records) / took


async def measure(bench: Bench) -> Raw:
    """Every architecture, interleaved; all but the GRU get fewer events."""
    now = time.time_ns() // 1_000_000
    events = bench.sizes.pipeline_events
    log = [(row.key, row.value, now) for row in rows(LogPlan(events, events // 10))]
    raw: Raw = {name: [] for name in ARCHITECTURES}
    models = {name: scorer(name) for name in ARCHITECTURES}
    for _ in range(bench.sizes.repeats):
        for name, model in models.items():
            records: Records = list(log if name == "gru" else log[: events // OTHERS_SHARE])
            rate = await asyncio.to_thread(events_per_second, model, records)
            raw[name].append(round(rate, 1))
            bench.say(f"pipeline without Kafka, {name}: {rate:,.0f} events/s")
    return raw


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Medians."""
    del before
    runs = {name: [x for raw in raws for x in raw.get(name, [])] for name in ARCHITECTURES}
    return {
        f"pipeline_{name}_events_per_second": statistics.median(rates)
        for name, rates in runs.items()
        if rates
    }
