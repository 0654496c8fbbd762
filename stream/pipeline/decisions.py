"""When a decision is made, and of when it is: one of the past is not to be taken for one of now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64

UNKNOWN: Final = -1
"""Delay of a decision on an event without a Kafka timestamp."""


@dataclass(frozen=True, slots=True)
class Decided:
    """N decisions: of the past or not, and how late."""

    past: NDArray[np.bool_]
    """Decided of history: the events reached Kafka long after they happened."""
    delay: I64
    """From the time that a decision is of to the Kafka timestamp of the event that led to it, or to
    the given clock, ms; `UNKNOWN`."""

    @classmethod
    def at(cls, arrived: I64, due: I64, past: NDArray[np.bool_]) -> Decided:
        """Decided at some times (ms, 0: not known) of others."""
        return cls(past, np.where(arrived > 0, np.maximum(arrived - due, 0), UNKNOWN))

    def take(self, chosen: NDArray[np.intp]) -> Decided:
        """The chosen ones, in that order."""
        return Decided(self.past[chosen], self.delay[chosen])
