"""Whether a model still sees what it was trained on: a sample of its inputs, in bins.

A handful of users of each micro-batch is looked at, so that it costs next to nothing per event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.monitoring.drift import FEATURE, DriftMonitor, Reference

if TYPE_CHECKING:
    from models.inputs.features import F32

PER_BATCH: Final = 8
"""Users of a micro-batch that are looked at, at most."""
_FLUSH: Final = 512
_NONE: Final = Reference()


class InputWatch:
    """The inputs of the model that serves a partition now."""

    def __init__(self, scorer: Any) -> None:
        """Begin anew with a model; one that has no reference is not watched."""
        self.code: int = scorer.code
        reference: Reference = getattr(scorer, "reference", _NONE)
        self._watched = any(name.startswith(FEATURE) for name in reference.histograms)
        self._monitor = DriftMonitor(reference)
        self._waiting: list[F32] = []
        self._rows = 0

    def add(self, profile_NP: F32) -> None:
        """Take in some of the users that were just scored."""
        if not self._watched or len(profile_NP) == 0:
            return
        some = profile_NP[:PER_BATCH].copy()
        self._waiting.append(some)
        self._rows += len(some)
        if self._rows >= _FLUSH:
            self._monitor.add_profiles(np.concatenate(self._waiting))
            self._waiting, self._rows = [], 0

    def indices(self) -> dict[str, float]:
        """Population stability index per feature, of what was seen often enough; any thread."""
        return self._monitor.indices()
