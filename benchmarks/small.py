"""How long starting takes: the program's help, a new broker from cached jars."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measures import at_most
from benchmarks.part import Bench, Raw
from stream.broker import EmbeddedKafka

NAME = "small"
MEASURES = (
    at_most("help_seconds", "s", 1.0, "`intentstream --help`"),
    at_most("broker_ready_seconds", "s", 10.0, "a new embedded broker, from start until it serves"),
)


def help_seconds() -> float:
    """Start the program as a user does."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "--help"], check=True, capture_output=True
    )
    return time.perf_counter() - begun


def broker_ready_seconds() -> float:
    """Start a new broker from cached jars until it serves."""
    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedKafka(Path(folder) / "kafka")
        begun = time.perf_counter()
        broker.start()
        took = time.perf_counter() - begun
        broker.stop()
    return took


async def measure(bench: Bench) -> Raw:
    """Repeat both."""
    raw: Raw = {}
    for function in (help_seconds, broker_ready_seconds):
        runs = [await asyncio.to_thread(function) for _ in range(bench.sizes.repeats)]
        raw[function.__name__] = [round(seconds, 3) for seconds in runs]
        bench.say(f"{function.__name__}: {statistics.median(runs):.2f}")
    return raw


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Medians."""
    del before
    names = [measure.name for measure in MEASURES]
    return {name: statistics.median(x for raw in raws for x in raw[name]) for name in names}
