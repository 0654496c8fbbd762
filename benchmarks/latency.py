"""Latency from the producer's send to the subscriber's receive, over load.

The sender is a process of its own and notes when it hands each event to its producer; this process
subscribes (read_committed) and notes when each prediction arrives. Both clocks are this machine's.
"""

import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import start_worker, worker_tree
from benchmarks.log import LogPlan
from benchmarks.measures import Measure, at_most
from benchmarks.part import Bench, Raw
from benchmarks.processes import Program
from benchmarks.race import RaceFailed
from benchmarks.ready import all_ready
from stream.broker.process import free_ports
from stream.config.settings import Settings

NAME = "latency"
GUARANTEES = ("at_least_once", "exactly_once")
PERCENTILES = (50, 95, 99)
RATES = (100, 1_000, 5_000, 20_000)
_TARGETS = {
    "at_least_once_1000_p50": 8.0,
    "at_least_once_1000_p99": 25.0,
    "exactly_once_1000_p99": 150.0,
}
_WARM_S = 2.0
_FIRST_S = 3.0
_DRAIN_S = 20.0
_USERS = 20_000


def _measure(guarantee: str, rate: int, percentile: int) -> Measure:
    key = f"{guarantee}_{rate}_p{percentile}"
    says = f"latency at {rate:,} events/s, {guarantee.replace('_', '-')}, p{percentile}"
    if key in _TARGETS:
        return at_most(f"latency_{key}_ms", "ms", _TARGETS[key], says)
    return Measure(f"latency_{key}_ms", "ms", says)


MEASURES = tuple(_measure(g, r, p) for g in GUARANTEES for r in RATES for p in PERCENTILES)


async def measure(bench: Bench, guarantees: Iterable[str] = GUARANTEES) -> Raw:
    """All rates, for both guarantees."""
    return {guarantee: await _of(bench, guarantee) for guarantee in guarantees}


async def _of(bench: Bench, guarantee: str) -> Raw:
    place, sizes = bench.place, bench.sizes
    seconds = _WARM_S + sizes.rate_s
    events = int(sum(rate * seconds for rate in sizes.rates) + sizes.rates[0] * _FIRST_S)
    plan = LogPlan(max(events, _USERS), _USERS)
    name = f"bench{bench.session}-latency-{guarantee}"
    run = bench.run(f"{name}.events", plan.partitions)
    await place.empty_log(plan, run.source)
    (port,) = free_ports(1)
    tree = worker_tree(place, run, guarantee, worker={"http_port": port})
    await place.prepare(Settings(**tree))
    out = place.folder / run.name / "sent.npz"
    command = [sys.executable, "-m", "benchmarks.sender", place.bootstrap, run.source]
    command += [f"{plan.events}-{plan.users}-{plan.partitions}", str(out)]
    # The worker's own first moments are not counted either.
    command += [f"{sizes.rates[0]}:{_FIRST_S}:0"]
    command += [f"{rate}:{_WARM_S}:{sizes.rate_s}" for rate in sizes.rates]
    try:
        with start_worker(place, run, tree) as worker:
            await all_ready([worker], [port])
            with Program(command, out.with_name("sender.log")) as sender:
                received = await _receive(bench, run.output, sender, worker, out)
            sent = np.load(out)
        figures = percentiles(sent, received, plan.partitions)
    finally:
        await place.delete(run.name)
        await place.delete(name)
        shutil.rmtree(place.folder / run.name, ignore_errors=True)
    for rate, found in figures.items():
        bench.say(f"latency {guarantee} at {rate}/s: {found}")
    return figures


async def _receive(
    bench: Bench, topic: str, sender: Program, worker: Program, out: Path
) -> dict[int, list[int]]:
    """Arrival times (ns) per partition, in order of offset, until all are there."""
    received: dict[int, list[int]] = {}
    count, expected, deadline = 0, None, None
    async with bench.place.watcher(topic) as watcher:
        consumer = watcher.consumer
        while expected is None or count < expected:
            fetched = await consumer.getmany(timeout_ms=100)
            now = time.time_ns()
            for tp, chunk in fetched.items():
                received.setdefault(tp.partition, []).extend([now] * len(chunk))
                count += len(chunk)
            if not worker.runs:
                raise RaceFailed(f"the worker ended: {worker.said()}")
            if expected is None and not sender.runs:
                sent = _sent(out, sender)
                expected = sum(len(sent[name]) for name in sent if name.startswith("sent_"))
                deadline = time.monotonic() + _DRAIN_S
            if deadline is not None and time.monotonic() > deadline:
                raise RaceFailed(f"{count} of {expected} predictions came: {worker.said()}")
    return received


def _sent(out: Path, sender: Program) -> Mapping[str, Any]:
    if not out.exists():
        raise RaceFailed(f"the sender ended: {sender.said()}")
    sent: Mapping[str, Any] = np.load(out)
    return sent


def percentiles(
    sent: Mapping[str, Any], received: Mapping[int, list[int]], partitions: int
) -> dict[str, dict[str, float]]:
    """Rate -> percentiles in ms, number of events, and the rate that was really sent."""
    found: dict[int, list[Any]] = {}
    times: dict[int, list[Any]] = {}
    for partition in range(partitions):
        begun, rate = sent[f"sent_{partition}"], sent[f"rate_{partition}"]
        # One prediction per event, in order: the n-th answers the n-th.
        took = np.array(received.get(partition, [])[: len(begun)], np.int64) - begun
        for value in np.unique(rate[rate > 0]).tolist():
            found.setdefault(value, []).append(took[rate == value])
            times.setdefault(value, []).append(begun[rate == value])
    out = {}
    for rate, parts in sorted(found.items()):
        took = np.concatenate(parts) / 1e6
        at = np.concatenate(times[rate])
        figures = {f"p{p}": round(float(np.percentile(took, p)), 2) for p in PERCENTILES}
        span = max((int(at.max()) - int(at.min())) / 1e9, 1e-9)
        out[str(rate)] = figures | {"events": len(took), "sent_per_second": round(len(at) / span)}
    return out


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Medians over the sittings."""
    del before
    found = {}
    for guarantee in GUARANTEES:
        for rate in RATES:
            rows = [
                raw[guarantee][str(rate)] for raw in raws if str(rate) in raw.get(guarantee, {})
            ]
            for p in PERCENTILES:
                if rows:
                    key = f"latency_{guarantee}_{rate}_p{p}_ms"
                    found[key] = float(np.median([row[f"p{p}"] for row in rows]))
    return found
