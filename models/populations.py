"""The two populations of predictions: those at events and those in inactivity.

A subscriber receives a prediction after an event; alerts come from timers, which evaluate users who
are inactive. The base rates of the two differ by a factor, so a figure of both together describes
predictions that no subscriber receives. Each population is evaluated by itself.

Within a population each user counts once: a user's examples share a weight of one equally. A user
of a hundred events therefore counts as much as a user of one, because actions are taken on users.

Shape suffixes: N examples.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluate import CALIBRATION_BINS, F64, calibration_error, log_loss, roc_auc

EVENT: Final = "event"
"""Predictions at events."""
TIMER: Final = "timer"
"""Predictions in inactivity, as timers evaluate users."""
POPULATIONS: Final = (EVENT, TIMER)
CHANCE_DRAWS: Final = 1000
CHANCE_QUANTILE: Final = 0.95

Mask = NDArray[np.bool_]


def populations(at_event_N: Mask) -> dict[str, Mask]:
    """Population -> which examples [N] belong to it."""
    return {EVENT: at_event_N, TIMER: ~at_event_N}


def user_weights(users_N: NDArray[Any]) -> F64:
    """Weights [N] of examples such that those of each user sum to 1."""
    _, of, counts = np.unique(users_N, return_inverse=True, return_counts=True)
    weights: F64 = 1.0 / counts[of]
    return weights


def chance_error(
    labels_N: NDArray[Any],
    probabilities_N: NDArray[Any],
    users_N: NDArray[Any],
    weights_N: F64,
    seed: int = 0,
) -> float:
    """Calibration error that calibrated probabilities stay below with probability 0.95.

    Each user's residuals are multiplied by one standard normal number (a multiplier bootstrap over
    users: Chernozhukov, Chetverikov and Kato, 2013), because a user's labels depend on each other:
    their windows overlap. Independent draws of labels would give too low a level.

    Args:
        labels_N: 0 or 1.
        probabilities_N: predicted.
        users_N: any number per user.
        weights_N: see `user_weights`.
        seed: of the draws.
    """
    p = np.asarray(probabilities_N, np.float64)
    distinct, user = np.unique(users_N, return_inverse=True)
    bins = np.minimum((p * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    residuals = weights_N * (np.asarray(labels_N, np.float64) - p)
    cells = len(distinct) * CALIBRATION_BINS
    by_user = np.bincount(user * CALIBRATION_BINS + bins, residuals, cells)
    by_user_UB = by_user.reshape(-1, CALIBRATION_BINS)
    # The sums over users of such products are jointly normal, with this covariance.
    values, vectors = np.linalg.eigh(by_user_UB.T @ by_user_UB)
    normal = np.random.default_rng(seed).standard_normal((CHANCE_DRAWS, CALIBRATION_BINS))
    sums = (normal * np.sqrt(np.maximum(values, 0))) @ vectors.T
    drawn = np.abs(sums).sum(axis=1)
    return float(np.quantile(drawn, CHANCE_QUANTILE) / weights_N.sum())


def population_figures(
    labels_N: NDArray[Any], probabilities_N: NDArray[Any], users_N: NDArray[Any]
) -> dict[str, float]:
    """Figures of one target in one population, each user counting once.

    Returns:
        base_rate, roc_auc, log_loss, ece, ece_chance (see `chance_error`), points, users.
    """
    weights = user_weights(users_N)
    return {
        "base_rate": float(np.average(labels_N, weights=weights)),
        "roc_auc": roc_auc(labels_N, probabilities_N, weights),
        "log_loss": log_loss(labels_N, probabilities_N, weights),
        "ece": calibration_error(labels_N, probabilities_N, weights=weights),
        "ece_chance": chance_error(labels_N, probabilities_N, users_N, weights),
        "points": float(len(labels_N)),
        "users": float(np.round(weights.sum())),
    }
