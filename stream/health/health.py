"""Whether a worker does its work: the report behind `/health` and `intentstream health`."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from models.serving.thresholds import InEffect
from stream.pipeline.outbox import Counters

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
    blocked_at: int | None = None
    """Offset of an open transaction that keeps later records back."""
    watermark: int = 0
    """Greatest event time seen, ms."""
    counters: Counters | None = None
    """Totals as of the last commit; none before the first opening."""
    stability: dict[str, float] = {}
    """Stability index of the model's inputs; see `models.monitoring.drift`."""


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
    raise_at: InEffect | None = None
    """From which risk on alerts are raised; None: not looked at."""


@dataclass(frozen=True)
class Answer:
    """What `/health` says."""

    ready: bool
    body: bytes


def answer(health: Health) -> Answer:
    """A report as a JSON document."""
    return Answer(health.ready, msgspec.json.encode(health))
