"""What an open partition does in one go, and what comes of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream.kafka.fetching import MicroBatch
    from stream.partition.opening import PipelineLike
    from stream.pipeline.erasure import Erasure
    from stream.pipeline.outbox import Counters, Outbox, Outputs


@dataclass(frozen=True)
class Snapshot:
    """A partition as of its last commit."""

    offset: int
    """Next source offset to process."""
    watermark: int
    counters: Counters
    next_due: int | None
    """No timer is due before this."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the engine has to do for this partition in one go, in this order."""

    durable: Durable | None
    batch: MicroBatch | None = None
    now: int | None = None
    """Time that timers may see."""
    drain: bool = False
    passed: tuple[int, int] | None = None
    """Offset before which nothing is left to process, and how much before it retention deleted."""
    erasures: list[Erasure] | None = None
    """New requests to forget users; empty: only old ones may be due."""


@dataclass(frozen=True, slots=True)
class Durable:
    """A commit that the cluster has."""

    outbox: Outbox
    changelog_offset: int
    snapshot: Snapshot
    covered: list[MicroBatch]
    began: float


@dataclass(frozen=True, slots=True)
class Computed:
    """What the engine has done of a step."""

    early: Outputs
    """Outputs that need not wait for the commit."""
    drained: tuple[Outbox, Snapshot] | None
    next_due: int | None
    pending: bool
    erasing: bool


def snapshot_of(pipeline: PipelineLike, offset: int) -> Snapshot:
    """What a pipeline has come to, with `offset` as the next one to process."""
    counters = copy.copy(pipeline.counters)
    return Snapshot(offset, pipeline.watermark, counters, pipeline.next_due())
