"""Where a worker's CPU goes, by stage: stacks sampled from outside, so that nothing is added to it.

A sample belongs to the innermost function that the table of stages names. py-spy sees threads that
run Python; the CPU of others (a Kafka library of its own threads, say) is read per thread.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.contestants import ALO, BENCH_PYTHON, CONTESTANTS, EO
from benchmarks.measures import Measure
from benchmarks.part import Bench, Raw
from benchmarks.processes import ROOT, Program
from benchmarks.race import RaceFailed
from benchmarks.throughput import CPU_ALO, CPU_EO
from stream.config.settings import Settings

NAME = "stages"
STAGES: dict[str, tuple[str, ...]] = {
    "poll": (
        "stream/kafka/transport.py",
        "stream/kafka/fetching.py",
        "stream/kafka/pace.py",
        "stream/kafka/responses.py",
        "stream/pipeline/records.py",
        "stream/partition/inbox.py",
        "aiokafka/consumer/",
        "faust/",
        "mode/",
    ),
    "decode": (
        "stream/pipeline/ingest.py",
        "schemas/codec.py:decode",
        "models/encoding.py",
        "stream/kernels/events.py",
    ),
    "order": (
        "models/inputs/apply.py",
        "models/inputs/insertion.py",
        "models/history.py",
        "models/kernels/history.py",
        "models/kernels/one_event.py",
        "stream/pipeline/slices.py",
        "stream/pipeline/step.py",
    ),
    "changelog": (
        "stream/pipeline/state.py:UserTable.drain",
        "stream/pipeline/pipeline.py:Pipeline.drain",
        "stream/pipeline/layout.py",
        "stream/kernels/sealing.py",
        "stream/pipeline/outbox.py",
    ),
    "state": (
        "stream/pipeline/state.py",
        "stream/storage/store",
        "stream/storage/write_behind.py",
        "stream/pipeline/timers.py",
        "stream/pipeline/churn.py",
    ),
    "model": (
        "models/serving/scorer.py",
        "models/serving/joining.py",
        "models/serving/offload.py",
        "models/serving/staging.py",
        "models/inputs/features.py",
        "stream/pipeline/hidden.py",
        "stream/pipeline/fallback.py",
        "models/steps.py",
        "models/kernels/recurrence.py",
    ),
    "emit": (
        "stream/pipeline/emit.py",
        "schemas/codec.py:encode",
        "schemas/outputs.py",
        "schemas/refused.py",
        "stream/kernels/predictions.py",
        "stream/pipeline/packed.py",
        "stream/pipeline/scoring.py:Scoring._predict",
    ),
    "commit": (
        "stream/partition/commit.py",
        "stream/partition/exactly_once.py",
        "stream/partition/at_least_once.py",
        "stream/kafka/sending.py",
        "stream/kafka/batch.py",
        "stream/kernels/packing.py",
        "aiokafka/producer/",
        "confluent_kafka/",
    ),
}
"""Stage -> "file" or "file:function" of its frames; the first that fits counts."""
_WAITS = ("selectors.py:EpollSelector.select", "threading.py:Condition.wait")
OTHER = "other"
_GUARANTEES = {"at_least_once": (ALO, CPU_ALO), "exactly_once": (EO, CPU_EO)}
_RATE = 200
_SECONDS = 8
MEASURES = tuple(
    Measure(
        f"cpu_{stage}_{guarantee}",
        "s",
        f"CPU seconds per million events, {guarantee.replace('_', '-')}: {stage}",
    )
    for guarantee in _GUARANTEES
    for stage in (*STAGES, OTHER)
)


def stage_of(stack: str) -> str | None:
    """The stage of a stack "outermost;...;innermost"; frames are "function (file:line)".

    None for a thread that waits, which py-spy cannot always tell from one that runs.
    """
    frames = stack.split(";")
    if _is_of(frames[-1], _WAITS):
        return None
    for frame in reversed(frames):
        for stage, places in STAGES.items():
            if _is_of(frame, places):
                return stage
    return OTHER


def _is_of(frame: str, places: Iterable[str]) -> bool:
    function, _, where = frame.partition(" (")
    for place in places:
        file, _, name = place.partition(":")
        if file in where and function.startswith(name):
            return True
    return False


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Share of samples per stage, of py-spy's raw format: "stack count"."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if stack and (stage := stage_of(stack)):
            counts[stage] += int(count)
    total = counts.total() or 1
    return {stage: counts[stage] / total for stage in (*STAGES, OTHER)}


def busiest(lines: Iterable[str], count: int = 40) -> dict[str, int]:
    """The innermost frames with most samples, as "stage: frame": what to look at first."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        if stack and (stage := stage_of(stack)):
            frame = stack.rpartition(";")[2].rpartition(":")[0]
            name = f"{stage}: {frame.replace(str(ROOT), '').replace('(/', '(')})"
            counts[name] += int(samples)
    return dict(counts.most_common(count))


async def measure(bench: Bench) -> Raw:
    """Sample a worker of each guarantee in the middle of its work."""
    if not BENCH_PYTHON.exists():
        return {}
    return {guarantee: await _of(bench, guarantee) for guarantee in _GUARANTEES}


async def _of(bench: Bench, guarantee: str) -> Raw:
    place, contestant = bench.place, CONTESTANTS[_GUARANTEES[guarantee][0]]
    log = await place.log(bench.plan)
    run = bench.run(log, bench.plan.partitions)
    if contestant.tree is None:
        raise RaceFailed(f"{contestant.name} is no worker")
    await place.prepare(Settings(**contestant.tree(place, run)))
    stacks = place.folder / run.name / "stacks.txt"
    try:
        with contestant.start(place, run) as worker:
            async with place.watcher(run.output) as ends:
                while not sum((await ends()).values()):
                    if not worker.runs:
                        raise RaceFailed(f"the worker ended: {worker.said()}")
                    await asyncio.sleep(0.02)
            command = [str(BENCH_PYTHON.with_name("py-spy")), "record", "--pid", str(worker.pid)]
            command += ["--rate", str(_RATE), "--duration", str(_SECONDS), "--nonblocking"]
            command += ["--format", "raw", "--full-filenames", "--output", str(stacks)]
            with Program(command, stacks.with_name("py-spy.log")) as spy:
                while spy.runs and worker.runs:
                    done = sum((await place.ends(run.output)).values())
                    if done >= bench.plan.events:
                        break
                    await asyncio.sleep(0.2)
                spy.interrupt()
                threads = _threads(worker.pid)
                said = spy.said()
        if not stacks.exists():
            raise RaceFailed(f"py-spy wrote nothing: {said}")
        lines = stacks.read_text().splitlines()
        found = shares(lines)
    finally:
        await place.delete(run.name)
        shutil.rmtree(place.folder / run.name, ignore_errors=True)
    bench.say(f"stages {guarantee}: " + ", ".join(f"{s} {v:.0%}" for s, v in found.items()))
    return {"shares": found, "busiest": busiest(lines), "thread_cpu_ticks": threads}


def _threads(pid: int) -> dict[str, int]:
    """CPU ticks by thread name."""
    ticks: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        text = task.read_text()
        fields = text.rpartition(")")[2].split()
        ticks[text.partition("(")[2].rpartition(")")[0]] += int(fields[11]) + int(fields[12])
    return dict(ticks)


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Shares of the CPU that the undisturbed runs took; of the last sitting."""
    found = {}
    for guarantee, (_, cpu) in _GUARANTEES.items():
        for raw in raws[-1:]:
            for stage, share in raw.get(guarantee, {}).get("shares", {}).items():
                if cpu in before:
                    found[f"cpu_{stage}_{guarantee}"] = share * before[cpu]
    return found
