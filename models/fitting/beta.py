"""Beta calibration: a map of probabilities with three parameters, fitted to labels.

Kull, Silva Filho and Flach, "Beyond sigmoids: How to obtain well-calibrated probabilities from
binary classifiers with beta calibration" (Electronic Journal of Statistics, 2017):

    logit p' = a ln p - b ln(1 - p) + c,   a, b >= 0

With a = b it is Platt's map of the log-odds; with a != b it bends either end by itself, and unlike
Platt's it contains the identity of probabilities: a = b = 1, c = 0. Parameters a and b are kept
above a floor, so the map strictly increases and a ranking stays what it is.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluate import F64, sigmoid
from models.kernels.betamap import FLOOR
from models.serving.recalibration import IDENTITY, SLOPE_FLOOR, BetaMap

PRIOR_USERS: Final = 4.0
"""Strength of the pull towards the identity, in labels of weight 1."""
NEWTON_STEPS: Final = 100
CONVERGED: Final = 1e-9


def fit_beta(probabilities_N: NDArray[Any], labels_N: NDArray[Any], weights_N: F64) -> BetaMap:
    """Return the map of the greatest posterior, with a normal prior around the identity.

    Args:
        probabilities_N: predicted.
        labels_N: 0 or 1.
        weights_N: of the labels.

    Returns:
        The identity where there is no label.
    """
    p = np.clip(np.asarray(probabilities_N, np.float64), FLOOR, 1 - FLOOR)
    y = np.asarray(labels_N, np.float64)
    if not len(p):
        return IDENTITY
    design = np.stack([np.log(p), -np.log1p(-p), np.ones_like(p)], axis=1)
    best, least = np.array([1.0, 1.0, 0.0]), float("inf")
    # The loss is convex: its least under the bounds is the best of those with some at the bound.
    for bound in itertools.product((False, True), repeat=2):
        free = ~np.array([*bound, False])
        theta = _newton(design, y, weights_N, free)
        if (theta[:2] >= SLOPE_FLOOR).all() and (
            loss := _loss(design, y, weights_N, theta)
        ) < least:
            best, least = theta, loss
    return BetaMap(*(float(value) for value in best))


_PRIOR: Final = np.array([1.0, 1.0, 0.0])


def _newton(design: F64, y: F64, weights: F64, free: NDArray[np.bool_]) -> F64:
    """Minimise over the free parameters; the others are at the floor."""
    theta = np.where(free, _PRIOR, SLOPE_FLOOR)
    for _ in range(NEWTON_STEPS):
        q = sigmoid(design @ theta)
        gradient = design.T @ (weights * (q - y)) + PRIOR_USERS * (theta - _PRIOR)
        curvature = (design * (weights * q * (1 - q))[:, None]).T @ design
        curvature += PRIOR_USERS * np.eye(3)
        step = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        before = _loss(design, y, weights, theta)
        scale = 1.0
        while scale > CONVERGED:
            moved = theta.copy()
            moved[free] -= scale * step
            if _loss(design, y, weights, moved) <= before:
                break
            scale /= 2
        else:
            break
        theta = moved
        if float(np.abs(scale * step).max()) < CONVERGED:
            break
    return theta


def _loss(design: F64, y: F64, weights: F64, theta: F64) -> float:
    z = design @ theta
    losses = np.logaddexp(0, z) - y * z
    return float(weights @ losses + 0.5 * PRIOR_USERS * ((theta - _PRIOR) ** 2).sum())
