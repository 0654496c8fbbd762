"""Whether one model ranks surely better than another: a paired bootstrap over users.

Events of a user depend on each other, so users are drawn, not events (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, ch. 6). Both models are evaluated on the same draw, and the
difference is averaged over the seeds of their fits.

Shape suffixes: N examples, R fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """AUROC of one model less that of another."""

    mean: float
    low: float
    high: float
    """Interval of 95 %."""

    def __str__(self) -> str:
        return f"{self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def auc_difference(
    labels_N: NDArray[Any],
    ours_RN: F64,
    theirs_RN: F64,
    users_N: NDArray[Any],
    resamples: int = 400,
    seed: int = 0,
) -> Difference:
    """AUROC of one model's scores less another's, with its interval over users.

    Args:
        labels_N: 0 or 1.
        ours_RN: scores of each fit.
        theirs_RN: likewise; as many fits.
        users_N: any number per user.
        resamples: draws of users.
        seed: of the draws.
    """
    users, of = np.unique(users_N, return_inverse=True)
    rng = np.random.default_rng(seed)
    ranked = [
        (_Ranked(labels_N, ours), _Ranked(labels_N, theirs))
        for ours, theirs in zip(ours_RN, theirs_RN, strict=True)
    ]

    def difference(weights_N: F64) -> float:
        return float(np.mean([a.auc(weights_N) - b.auc(weights_N) for a, b in ranked]))

    drawn = np.empty(resamples)
    for draw in range(resamples):
        times = rng.multinomial(len(users), np.full(len(users), 1 / len(users)))
        drawn[draw] = difference(times[of].astype(np.float64))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Difference(difference(np.ones(len(labels_N))), float(low), float(high))


class _Ranked:
    """Scores in order, so that the AUROC under other weights costs no sorting."""

    def __init__(self, labels_N: NDArray[Any], scores_N: F64) -> None:
        self._order = np.argsort(scores_N, kind="stable")
        scores = scores_N[self._order]
        self._positive = np.asarray(labels_N, np.float64)[self._order]
        self._first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))

    def auc(self, weights_N: F64) -> float:
        """Weighted share of the pairs in the right order; ties count half."""
        weights = weights_N[self._order]
        positive = np.add.reduceat(weights * self._positive, self._first)
        negative = np.add.reduceat(weights * (1 - self._positive), self._first)
        pairs = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative / 2
        return float((positive * below).sum() / pairs) if pairs > 0 else float("nan")
