"""Honest figures of probabilities against what came true, and the baselines to beat.

All functions take labels [N] of 0/1 and probabilities or scores [N]; every point counts the same
where no weights [N] are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Labels = NDArray[Any]

CALIBRATION_BINS: Final = 15
PROBABILITY_FLOOR: Final = 1e-7
RECENCY_BINS: Final = 20


def sigmoid(logits: F64) -> F64:
    """Probabilities of log-odds, of any shape; does not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits))


def ranks(values_N: NDArray[Any]) -> F64:
    """Ranks [N] from 1, equal values sharing their mean."""
    _, inverse, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    mean_rank: F64 = np.cumsum(counts) - (counts - 1) / 2
    return mean_rank[inverse]


def roc_auc(labels: Labels, scores: NDArray[Any], weights: F64 | None = None) -> float:
    """Area under the ROC curve, ties counted half; NaN where only one class is present."""
    positive = np.asarray(labels, bool)
    if weights is not None:
        return _weighted_auc(positive, scores, weights)
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    rank_sum = float(ranks(scores)[positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _weighted_auc(positive: NDArray[np.bool_], scores: NDArray[Any], weights: F64) -> float:
    _, value = np.unique(scores, return_inverse=True)
    above = np.bincount(value, weights=weights * positive)
    below = np.bincount(value, weights=weights * ~positive)
    total = above.sum() * below.sum()
    if total == 0:
        return float("nan")
    return float((above * (np.cumsum(below) - below / 2)).sum() / total)


def pr_auc(labels: Labels, scores: NDArray[Any]) -> float:
    """Average precision (area under the precision-recall steps); NaN without a positive."""
    positive = np.asarray(labels, np.float64)
    total = positive.sum()
    if total == 0:
        return float("nan")
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked, values = positive[order], np.asarray(scores)[order]
    last_of_tie = np.append(values[1:] != values[:-1], True)
    hits = np.cumsum(ranked)[last_of_tie]
    seen = np.flatnonzero(last_of_tie) + 1
    return float((np.diff(hits, prepend=0.0) * hits / seen).sum() / total)


def log_loss(labels: Labels, probabilities: NDArray[Any], weights: F64 | None = None) -> float:
    """Mean negative log-likelihood, in nats."""
    y = np.asarray(labels, np.float64)
    p = np.clip(np.asarray(probabilities, np.float64), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    losses = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return float(losses.mean() if weights is None else np.average(losses, weights=weights))


def brier(labels: Labels, probabilities: NDArray[Any]) -> float:
    """Mean squared error of the probabilities."""
    return float(np.square(np.asarray(probabilities, np.float64) - labels).mean())


def calibration_error(
    labels: Labels,
    probabilities: NDArray[Any],
    bins: int = CALIBRATION_BINS,
    weights: F64 | None = None,
) -> float:
    """Expected calibration error over bins of equal width (Guo et al., ICML 2017)."""
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels, np.float64)
    w = np.ones(len(p)) if weights is None else weights
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    predicted = np.bincount(index, weights=w * p, minlength=bins)
    observed = np.bincount(index, weights=w * y, minlength=bins)
    return float(np.abs(predicted - observed).sum() / w.sum())


def figures(labels: Labels, probabilities: NDArray[Any]) -> dict[str, float]:
    """All figures of one target."""
    return {
        "base_rate": float(np.mean(labels)),
        "roc_auc": roc_auc(labels, probabilities),
        "pr_auc": pr_auc(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
        "ece": calibration_error(labels, probabilities),
        "brier": brier(labels, probabilities),
        "points": float(len(labels)),
    }


@dataclass(frozen=True)
class RecencyBaseline:
    """The rate of a target by how long ago the last purchase was: equal-sized bins, smoothed.

    What a shop without a model would use; it sees nothing but the silence.
    """

    edges: F64
    """Inner bin edges of the silence, ascending."""
    rates: F64
    """Rate of the target per bin."""

    @classmethod
    def fit(cls, silence: NDArray[Any], labels: Labels) -> RecencyBaseline:
        """Fit on training points; `silence` [N] in any unit, longer is larger."""
        quantiles = np.linspace(0, 1, RECENCY_BINS + 1)[1:-1]
        edges = np.unique(np.quantile(np.asarray(silence, np.float64), quantiles))
        index = np.searchsorted(edges, silence, side="right")
        size = len(edges) + 1
        n = np.bincount(index, minlength=size)
        hits = np.bincount(index, weights=np.asarray(labels, np.float64), minlength=size)
        prior = float(np.mean(labels))
        return cls(edges, (hits + prior) / (n + 1))

    def predict(self, silence: NDArray[Any]) -> F64:
        """Probabilities [N]."""
        found: F64 = self.rates[np.searchsorted(self.edges, silence, side="right")]
        return found
