"""Whether a worker does its work: the report behind `/health` and `intentstream health`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from stream.outbox import Counters

if TYPE_CHECKING:
    from stream.partition import PartitionTask
    from stream.worker import Worker

Phase = Literal["starting", "running", "stopping"]


class PartitionHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a worker."""

    partition: int
    state: Literal["opening", "open", "closing"]
    step: str
    """What it does now, with the changelog position while it is restored."""
    offset: int = 0
    """Next source offset to process; committed."""
    lag: int = 0
    """Records of the log that are not committed yet."""
    watermark: int = 0
    """Greatest event time seen, ms."""
    counters: Counters | None = None
    """Totals as of the last commit; none before the first opening."""
    stability: dict[str, float] = {}
    """Stability index of the model's inputs; see `models.drift`."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A worker at one moment."""

    ready: bool
    """Running, every partition it owns is open, and nothing stands still."""
    phase: Phase
    worker: str
    model: str
    problems: tuple[str, ...]
    """What stands still."""
    partitions: tuple[PartitionHealth, ...]


@dataclass(frozen=True)
class Answer:
    """What `/health` says."""

    ready: bool
    body: bytes


def answer(health: Health) -> Answer:
    """A report as a JSON document."""
    return Answer(health.ready, msgspec.json.encode(health))


def health_of(worker: Worker, phase: Phase, problems: tuple[str, ...]) -> Health:
    """Look at a worker; from any thread. `problems`: what stands still."""
    tasks = sorted(worker.assignment.tasks, key=lambda task: task.tp.partition)
    partitions = tuple(_partition(worker, task) for task in tasks)
    all_open = worker.assignment.joined and all(p.state == "open" for p in partitions)
    return Health(
        ready=phase == "running" and all_open and not problems,
        phase=phase,
        worker=worker.identity.name,
        model=worker.lineup.serving.version,
        problems=problems,
        partitions=partitions,
    )


def _partition(worker: Worker, task: PartitionTask) -> PartitionHealth:
    snapshot, progress, state = task.snapshot, task.progress, task.state
    step = ""
    if state != "open":
        step = progress.step + (f" at {progress.done} of {progress.end}" if progress.end else "")
    if snapshot is None:
        return PartitionHealth(partition=task.tp.partition, state=state, step=step)
    known = worker.log_state(task.tp)
    return PartitionHealth(
        partition=task.tp.partition,
        state=state,
        step=step,
        offset=snapshot.offset,
        lag=max((known.high_water if known else 0) - snapshot.offset, 0),
        watermark=snapshot.watermark,
        counters=snapshot.counters,
        stability=task.stability,
    )
