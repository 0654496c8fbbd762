"""What waits for its outcome, per partition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.populations import EVENT

if TYPE_CHECKING:
    from schemas.outputs import ChurnAlert

__all__ = ["Lane", "Pending"]


@dataclass(slots=True)
class Pending:
    """A prediction or an alert that waits for what follows."""

    user: str
    time: int
    horizon: int
    version: str
    target: str
    """Empty for an alert."""
    kind: int
    """Code of the event type that decides."""
    probability: float
    offset: int
    population: str = EVENT
    """Where it was predicted, see `models.populations`."""
    alert: ChurnAlert | None = None
    settled: bool = False


@dataclass(slots=True)
class Lane:
    """One partition: its events decide when the labels of its users are known."""

    watermark: int = 0
    """Greatest event time seen."""
    predicted: int | None = None
    """Greatest event time of a prediction seen."""
    waiting: list[tuple[int, int, Pending]] = field(default_factory=list)
    """Heap by the time at which the label is known."""

    @property
    def clock(self) -> int:
        """Up to here both events and predictions have come, whichever is read ahead."""
        return self.watermark if self.predicted is None else min(self.watermark, self.predicted)
