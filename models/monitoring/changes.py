"""Changes of a stream's mean without a reference: ADWIN (Bifet and Gavalda, SDM 2007).

Here of log-losses and scores. A module of its own, as importing river takes seconds.
"""

from __future__ import annotations

from river.drift import ADWIN

from models.monitoring.drift import MIN_SAMPLES


class ChangeDetector:
    """ADWIN over a stream that arrives in order; remembers how often and when it changed."""

    def __init__(self, delta: float = 0.002, min_samples: int = MIN_SAMPLES) -> None:
        """`delta`: confidence; `min_samples`: before this many values nothing is reported."""
        self._adwin = ADWIN(delta=delta, grace_period=min_samples)
        self.changes = 0
        self.last_change: int | None = None
        """Time given with the value at which the last change was found."""

    @property
    def mean(self) -> float:
        """Mean since the last change."""
        return float(self._adwin.estimation)

    def add(self, value: float, at: int) -> bool:
        """Take in one value seen at a time (ms); whether a change is found now."""
        self._adwin.update(value)
        if self._adwin.drift_detected:
            self.changes += 1
            self.last_change = at
            return True
        return False
