"""Throughput and CPU of everybody over the same log, in interleaved rounds."""

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.contestants import (
    ALO,
    BENCH_PYTHON,
    BYTEWAX_GRU,
    CONTESTANTS,
    EO,
    FAUST,
    KS_ALO_CACHE,
    KS_DEFAULT,
    KS_EO_CACHE,
    QUIX_GRU,
    Contestant,
)
from benchmarks.measures import Measure, at_least, at_most
from benchmarks.part import Bench, Raw
from benchmarks.race import RaceFailed, race

NAME = "throughput"
LEAST_ROUNDS = 2
ESSENTIAL = (ALO, EO, KS_ALO_CACHE, KS_EO_CACHE, BYTEWAX_GRU, FAUST)
CPU_ALO, CPU_EO = "cpu_seconds_per_million_at_least_once", "cpu_seconds_per_million_exactly_once"
_RATIOS = {
    "at_least_once_over_kafka_streams_cache": (ALO, KS_ALO_CACHE),
    "at_least_once_over_kafka_streams_cache_30s": (ALO, KS_DEFAULT),
    "exactly_once_over_kafka_streams_cache": (EO, KS_EO_CACHE),
    "at_least_once_over_faust": (ALO, FAUST),
    "at_least_once_over_bytewax_gru": (ALO, BYTEWAX_GRU),
    "at_least_once_over_quix_gru": (ALO, QUIX_GRU),
}
MEASURES = (
    at_least(
        "at_least_once_over_kafka_streams_cache",
        "x",
        1.0,
        "events/s, at-least-once, over Kafka Streams at-least-once with cache (without a model)",
    ),
    Measure(
        "at_least_once_over_kafka_streams_cache_30s",
        "x",
        "the same over Kafka Streams that commits every 30 s, its default",
    ),
    at_least(
        "exactly_once_over_kafka_streams_cache",
        "x",
        1.0,
        "events/s, exactly-once, over Kafka Streams exactly_once_v2 with cache (without a model)",
    ),
    at_least("at_least_once_over_faust", "x", 35.0, "events/s over the Faust table agent"),
    at_least("at_least_once_over_bytewax_gru", "x", 10.0, "events/s over Bytewax with the GRU"),
    Measure("at_least_once_over_quix_gru", "x", "events/s over Quix Streams with the GRU"),
    at_most(CPU_ALO, "s", 10.0, "CPU seconds of the worker per million events, at-least-once"),
    at_most(CPU_EO, "s", 10.0, "CPU seconds of the worker per million events, exactly-once"),
)


async def measure(bench: Bench) -> Raw:
    """Every contestant in every round; who fails is noted and the others go on."""
    log = await bench.place.log(bench.plan)
    runs: list[Raw] = []
    begun = time.monotonic()
    for number in range(bench.sizes.rounds):
        took = time.monotonic() - begun
        if number >= LEAST_ROUNDS and took * (number + 1) / number > bench.sizes.rounds_s:
            bench.say(f"{number} rounds took {took:.0f} s: there is no time for another one")
            break
        for contestant in chosen(everybody=bench.sizes.contestants):
            run = bench.run(log, bench.plan.partitions)
            row: Raw = {"contestant": contestant.name}
            try:
                done, _ = await race(
                    bench.place, contestant, run, bench.plan.events, bench.sizes.allowed_s
                )
                row |= done.row()
                said = f"{done.events_per_second:,.0f} events/s"
                said += f", {done.cpu_per_million:.1f} CPU s per million"
            except RaceFailed as error:
                row["failed"] = said = str(error)
            bench.say(f"round {number + 1}: {contestant.name}: {said}")
            runs.append(row)
    return {"events": bench.plan.events, "users": bench.plan.users, "runs": runs}


def chosen(*, everybody: bool) -> list[Contestant]:
    """Who takes part: all, or the essential ones; peers only where they are installed."""
    names = CONTESTANTS if everybody else ESSENTIAL
    there = BENCH_PYTHON.exists()
    return [CONTESTANTS[name] for name in names if there or not CONTESTANTS[name].peer]


def table(raws: Iterable[Raw]) -> dict[str, dict[str, Any]]:
    """Contestant -> its runs, medians and spread."""
    runs = [run for raw in raws for run in raw["runs"] if "failed" not in run]
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(run["contestant"] for run in runs):
        mine = [run for run in runs if run["contestant"] == name]
        rates = [run["events_per_second"] for run in mine]
        cpu = [run["cpu_seconds_per_million"] for run in mine]
        about = CONTESTANTS[name].about if name in CONTESTANTS else ""
        found[name] = {
            "about": about,
            "events_per_second": rates,
            "median": statistics.median(rates),
            "least": min(rates),
            "most": max(rates),
            "cpu_seconds_per_million": cpu,
            "cpu_median": statistics.median(cpu),
            "peak_rss_bytes": max(run["peak_rss_bytes"] for run in mine),
            "machine_busy": max(run.get("machine_busy", 0.0) for run in mine),
            "whole_log": all(run["complete"] for run in mine),
        }
    return found


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Ratios of medians."""
    del before
    found = table(raws)
    ratios = {
        name: found[a]["median"] / found[b]["median"]
        for name, (a, b) in _RATIOS.items()
        if a in found and b in found
    }
    cpu = {CPU_ALO: ALO, CPU_EO: EO}
    return ratios | {n: found[who]["cpu_median"] for n, who in cpu.items() if who in found}
