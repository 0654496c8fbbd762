"""CPU per event when several worker processes share the partitions; exactly-once.

The workers stand ready with their partitions before the first event is sent, so that nothing is
spent on rebalances while it counts, and warm up on a tenth as many events. It counts until the last
output is there: what idle workers spend while the outputs are counted is not of the events.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.contestants import start_worker, worker_tree
from benchmarks.log import SPAN_MS, LogPlan
from benchmarks.measures import at_most
from benchmarks.part import Bench, Raw
from benchmarks.processes import Program
from benchmarks.race import RaceFailed
from benchmarks.ready import all_ready, check
from stream.broker.process import free_ports
from stream.config.settings import Settings

NAME = "scaleout"
MEASURES = tuple(
    at_most(
        f"scaleout_cpu_{count}_over_1",
        "x",
        1.1,
        f"CPU seconds per million events of {count} worker processes, over one",
    )
    for count in (2, 4)
)
_DONE_S = 180.0


async def measure(bench: Bench) -> Raw:
    """Each number of processes."""
    found: Raw = {}
    for count in bench.sizes.processes:
        cpu = await _cpu_per_million(bench, count)
        found[str(count)] = round(cpu, 3)
        bench.say(f"scale-out, {count} processes: {cpu:.2f} CPU s per million")
    return found


async def _cpu_per_million(bench: Bench, count: int) -> float:
    place, events = bench.place, bench.sizes.grow_events
    plan = LogPlan(events, min(bench.sizes.users, events // 4))
    warm_up = replace(plan, events=events // 10, users=plan.users // 10, seed=plan.seed + 1)
    name = f"bench{bench.session}-scale{count}"
    run = bench.run(f"{name}.events", plan.partitions)
    await place.empty_log(plan, run.source)
    tree = worker_tree(place, run, "exactly_once")
    await place.prepare(Settings(**tree))
    ports = free_ports(count)
    try:
        with contextlib.ExitStack() as stack:
            workers = []
            for number, port in enumerate(ports):
                its = worker_tree(place, run, "exactly_once", worker={"http_port": port})
                program = start_worker(place, run, its, f"worker-{number}")
                workers.append(stack.enter_context(program))
            await all_ready(workers, ports)
            # Before the other log begins: what is older than a user's last event comes late.
            await place.fill(warm_up, run.source, time.time_ns() // 1_000_000 - SPAN_MS)
            await _all_done(bench, run.output, warm_up.events, workers)
            before = _cpu_s(workers)
            await place.fill(plan, run.source)
            after = await _all_done(bench, run.output, warm_up.events + events, workers)
        return (after - before) / events * 1e6
    finally:
        await place.delete(run.name)
        await place.delete(name)
        shutil.rmtree(place.folder / run.name, ignore_errors=True)


def _cpu_s(workers: Sequence[Program]) -> float:
    return sum(worker.usage().cpu_s for worker in workers)


async def _all_done(bench: Bench, topic: str, events: int, workers: Sequence[Program]) -> float:
    """Wait for so many outputs; return the workers' CPU seconds as of the last one."""
    deadline = time.monotonic() + _DONE_S
    async with bench.place.watcher(topic) as ends:
        last: dict[int, int] = {}
        moved, spent = time.monotonic(), 0.0
        while True:
            check(workers)
            now = await ends()
            if now != last:
                last, moved, spent = now, time.monotonic(), _cpu_s(workers)
            # Markers of transactions count too; what stands still is looked at.
            if sum(now.values()) >= events and time.monotonic() - moved > 1:
                outputs = await bench.place.read(topic, values=False)
                if sum(map(len, outputs.offsets.values())) == events:
                    return spent
            if time.monotonic() > deadline:
                raise RaceFailed(f"the workers reached {now} of {events} events")
            await asyncio.sleep(0.1)


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Over the single process of the same sitting; of the last."""
    del before
    raw = raws[-1] if raws else {}
    return {
        f"scaleout_cpu_{count}_over_1": raw[str(count)] / raw["1"]
        for count in (2, 4)
        if str(count) in raw and "1" in raw
    }
