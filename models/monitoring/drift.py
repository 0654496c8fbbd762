"""Drift of inputs, scores and labels against what a model was trained on.

The population stability index compares a distribution with a reference in bins of the reference's
quantiles: sum((p - q) * ln(p / q)). By the custom of credit scoring (Siddiqi, "Credit Risk
Scorecards", 2006, ch. 10) below 0.1 nothing has moved, and above 0.25 much has. With few
samples chance alone gives about (bins - 1) * (1/n + 1/m); an index below a minimum of samples is
not given at all.
"""

from __future__ import annotations

from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.inputs.features import F32, PROFILE_FEATURES

BINS: Final = 10
MIN_SAMPLES: Final = 500
"""Fewer samples give no index."""
MODERATE: Final = 0.1
SEVERE: Final = 0.25
_FLOOR: Final = 1e-4
"""Share of an empty bin: keeps the logarithm finite."""
_HALF_LIFE: Final = 50_000
"""After this many samples the counts are halved: the index is of the last ones."""
SCORE: Final = "score."
LABEL: Final = "label."
FEATURE: Final = "feature."


class Histogram(msgspec.Struct, frozen=True):
    """A reference distribution in bins of its own quantiles."""

    edges: tuple[float, ...]
    """Inner edges, ascending; bin k holds edges[k-1] < x <= edges[k]."""
    shares: tuple[float, ...]
    """One more than edges; they sum to 1."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Up to `BINS` bins of equal share; values that are frequent share one."""
        found = np.asarray(values, np.float64)
        edges = np.unique(np.quantile(found, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
        edges = edges[edges < found.max()] if len(found) else edges
        counts = np.bincount(np.searchsorted(edges, found), minlength=len(edges) + 1)
        return cls(tuple(edges.tolist()), tuple((counts / counts.sum()).tolist()))


class Reference(msgspec.Struct, frozen=True):
    """Distributions of a model's training: by name, with a prefix for the kind."""

    histograms: dict[str, Histogram] = {}

    @classmethod
    def of(
        cls,
        profile_NP: F32,
        scores: dict[str, NDArray[Any]],
        labels: dict[str, NDArray[Any]],
    ) -> Self:
        """Of profile features [N,P]; scores and labels (0, 1) by target."""
        found = {
            FEATURE + name: Histogram.of(profile_NP[:, column])
            for column, name in enumerate(PROFILE_FEATURES)
        }
        found |= {SCORE + name: Histogram.of(values) for name, values in scores.items()}
        for name, values in labels.items():
            rate = float(np.mean(values))
            found[LABEL + name] = Histogram((0.5,), (1 - rate, rate))
        return cls(found)


def stability_index(expected: NDArray[Any], observed: NDArray[Any]) -> float:
    """Population stability index of two lists of shares of the same bins."""
    p = np.maximum(np.asarray(observed, np.float64), _FLOOR)
    q = np.maximum(np.asarray(expected, np.float64), _FLOOR)
    return float(((p - q) * np.log(p / q)).sum())


class DriftMonitor:
    """Counts what is seen in the bins of a reference, the last ones most."""

    def __init__(self, reference: Reference, min_samples: int = MIN_SAMPLES) -> None:
        """Begin with nothing seen."""
        self._min = min_samples
        self._bins = {
            name: (np.array(found.edges), np.array(found.shares), np.zeros(len(found.shares)))
            for name, found in reference.histograms.items()
        }

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Take in values of one quantity; one that the reference lacks is ignored."""
        found = self._bins.get(name)
        if found is None or len(values) == 0:
            return
        edges, _, counts = found
        counts += np.bincount(np.searchsorted(edges, values), minlength=len(counts))
        if counts.sum() > 2 * _HALF_LIFE:
            counts /= 2

    def add_profiles(self, profile_NP: F32) -> None:
        """Take in profile features [N,P]."""
        for column, name in enumerate(PROFILE_FEATURES):
            self.add(FEATURE + name, profile_NP[:, column])

    def indices(self) -> dict[str, float]:
        """Population stability index by name, of what has been seen often enough."""
        return {
            name: stability_index(shares, counts / counts.sum())
            for name, (_, shares, counts) in self._bins.items()
            if counts.sum() >= self._min
        }
