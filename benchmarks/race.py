"""One run of one contestant over the log, watched from outside through the output's offsets.

The clock starts when the first outputs are visible to a read_committed subscriber (what came until
then is not counted) and stops when the last one is. Start-up of processes is thereby left out;
warming up is not.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.contestants import Contestant, Run
from benchmarks.place import Outputs, Place
from benchmarks.processes import Program, Usage, machine_busy
from models.serving.measuring import version_of
from stream.config.settings import Settings

_SAMPLE_S = 0.025
_IDLE_S = 1.5
_START_S = 90.0


Beside = Callable[[Run, Outputs], Awaitable[dict[str, Any]]]


class RaceFailed(Exception):
    """A contestant ended early, or wrote too much or too little."""


@dataclass(frozen=True)
class Sample:
    """A moment of a run."""

    at: float
    """Seconds since the start of the process."""
    ends: dict[int, int]
    """Output partition -> last stable offset."""
    usage: Usage


@dataclass(frozen=True)
class Finish:
    """How a run went."""

    events: int
    """Counted events."""
    seconds: float
    cpu_seconds: float
    """Of the process and its children while those events were processed."""
    start_seconds: float
    """From the start of the process to the first outputs."""
    outputs: int
    """Messages in the output topic at the end."""
    complete: bool
    """Whether the whole log was processed; False: stopped after the time allowed."""
    peak_rss_bytes: int
    end_rss_bytes: int
    rss: list[tuple[float, int]] = field(default_factory=list)
    """(seconds, bytes) at about 40 moments."""
    machine_busy: float = 0.0
    """Share of all cores that others used just before: 0 on a quiet machine."""

    @property
    def events_per_second(self) -> float:
        """Throughput."""
        return self.events / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds per million events."""
        return self.cpu_seconds / self.events * 1e6

    def row(self) -> dict[str, Any]:
        """What bench.json keeps."""
        figures = {"events_per_second": round(self.events_per_second, 1)}
        figures["cpu_seconds_per_million"] = round(self.cpu_per_million, 3)
        return figures | asdict(self)


async def watch(
    place: Place, program: Program, run: Run, events: int, allowed_s: float
) -> tuple[list[Sample], Outputs, bool]:
    """Sample until all outputs are there, or for `allowed_s` since the first.

    Returns:
        The samples from the first outputs on, what the topic holds, whether it is complete.

    Raises:
        RaceFailed: the process ended, or nothing came.
    """
    began = time.monotonic()
    samples: list[Sample] = []
    moved = 0.0
    async with place.watcher(run.output) as ends:
        while True:
            now = Sample(time.monotonic() - began, await ends(), program.usage())
            total = sum(now.ends.values())
            if total and (not samples or now.ends != samples[-1].ends):
                samples.append(now)
                moved = now.at
            if not program.runs:
                raise RaceFailed(f"{run.name} ended: {program.said()}")
            if not samples and now.at > _START_S:
                raise RaceFailed(f"{run.name} wrote nothing in {_START_S:g} s: {program.said()}")
            if samples and now.at - samples[0].at > allowed_s:
                return samples, await place.read(run.output), False
            if total >= events and now.at - moved > _IDLE_S:
                outputs = await place.read(run.output)
                if sum(map(len, outputs.offsets.values())) >= events:
                    return samples, outputs, True
                moved = now.at
            await asyncio.sleep(_SAMPLE_S)


def finish(samples: list[Sample], outputs: Outputs, events: int, *, complete: bool) -> Finish:
    """Figures between the first sample and the one that had everything counted."""
    first = samples[0]
    last = samples[-1]
    if complete:
        ends = {p: int(found[-1]) + 1 for p, found in outputs.offsets.items() if len(found)}
        last = next(s for s in samples if all(s.ends[p] >= end for p, end in ends.items()))
    counted = outputs.before(last.ends) - outputs.before(first.ends)
    if counted <= 0 or last.at <= first.at:
        raise RaceFailed("everything came at once: take more events")
    total = sum(map(len, outputs.offsets.values()))
    if total > events:
        raise RaceFailed(f"{total} outputs for {events} events")
    step = max(len(samples) // 40, 1)
    return Finish(
        events=counted,
        seconds=last.at - first.at,
        cpu_seconds=last.usage.cpu_s - first.usage.cpu_s,
        start_seconds=first.at,
        outputs=total,
        complete=complete,
        peak_rss_bytes=max(s.usage.rss_bytes for s in samples),
        end_rss_bytes=last.usage.rss_bytes,
        rss=[(round(s.at, 2), s.usage.rss_bytes) for s in samples[::step]],
    )


async def race(
    place: Place,
    contestant: Contestant,
    run: Run,
    events: int,
    allowed_s: float,
    beside: Beside | None = None,
) -> tuple[Finish, dict[str, Any]]:
    """Run a contestant in topics of its own, and clean up.

    Args:
        place: broker and folder.
        contestant: whom.
        run: topics and names.
        events: in the log.
        allowed_s: after the first outputs; then it is stopped.
        beside: looks at the run once it has ended, before it is cleaned up.

    Returns:
        How it went, and what `beside` found.

    Raises:
        RaceFailed: it did not do its task.
    """
    if contestant.tree is not None:
        await place.prepare(Settings(**contestant.tree(place, run)))
    else:
        await place.create(run.output, run.partitions)
    busy = await asyncio.to_thread(machine_busy)
    try:
        with contestant.start(place, run) as program:
            samples, outputs, complete = await watch(place, program, run, events, allowed_s)
        model = version_of(place.architecture) if contestant.tree is not None else None
        one_output_per_event(outputs, model)
        found = await beside(run, outputs) if beside else {}
        done = finish(samples, outputs, events, complete=complete)
        return replace(done, machine_busy=round(busy, 3)), found
    finally:
        await place.delete(run.name)
        shutil.rmtree(place.folder / run.name, ignore_errors=True)


def one_output_per_event(outputs: Outputs, model: str | None) -> None:
    """Demand that no event was answered twice, and by the model named.

    Raises:
        RaceFailed: one was, or by another.
    """
    name = b'"prediction_id":"' if model else b'"event_id":'
    ids = {_text_after(record.value or b"", name) for record in outputs.records}
    if len(ids) != len(outputs.records):
        raise RaceFailed(f"{len(outputs.records)} outputs for {len(ids)} events")
    strangers = [name for name in ids if model and not name.startswith(f"{model}:".encode())]
    if strangers:
        raise RaceFailed(f"{len(strangers)} outputs are not of {model}, e.g. {strangers[0]!r}")


def _text_after(value: bytes, name: bytes) -> bytes:
    begin = value.index(name) + len(name)
    return value[begin : begin + 80].lstrip(b' "').partition(b'"')[0]
