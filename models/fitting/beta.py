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


def fit_beta(
    probabilities_N: NDArray[Any],
    labels_N: NDArray[Any],
    weights_N: F64,
    observed_N: F64 | None = None,
) -> BetaMap:
    """Return the map of the greatest posterior, with a normal prior around the identity.

    Args:
        probabilities_N: predicted.
        labels_N: 0 or 1; of an open label whether its event came so far.
        weights_N: of the labels.
        observed_N: share of the hazard of the label's window that lies in the time observed so far,
            above 0; None: 1, all labels are complete. See `so_far`.

    Returns:
        The identity where there is no label.
    """
    p = np.clip(np.asarray(probabilities_N, np.float64), FLOOR, 1 - FLOOR)
    y = np.asarray(labels_N, np.float64)
    g = np.ones_like(p) if observed_N is None else observed_N
    if not len(p):
        return IDENTITY
    design = np.stack([np.log(p), -np.log1p(-p), np.ones_like(p)], axis=1)
    best, least = np.array([1.0, 1.0, 0.0]), float("inf")
    # The loss is convex: its least under the bounds is the best of those with some at the bound.
    for bound in itertools.product((False, True), repeat=2):
        free = ~np.array([*bound, False])
        theta = _newton(design, y, weights_N, g, free)
        if (theta[:2] >= SLOPE_FLOOR).all() and (
            loss := _loss(design, y, weights_N, g, theta)
        ) < least:
            best, least = theta, loss
    return BetaMap(*(float(value) for value in best))


def so_far(probabilities_N: F64, observed_N: F64) -> F64:
    """Probability [N] that the event came by now, of that it comes within the whole window.

    With a hazard that is proportional between users the event stays out for a share g of the
    window's cumulative hazard with probability (1 - p)^g (Cox, "Regression Models and Life-Tables",
    1972).

    Args:
        probabilities_N: that the event comes within the window.
        observed_N: the share g.
    """
    came: F64 = -np.expm1(observed_N * np.log1p(-np.clip(probabilities_N, FLOOR, 1 - FLOOR)))
    return came


_PRIOR: Final = np.array([1.0, 1.0, 0.0])


def _newton(design: F64, y: F64, weights: F64, g: F64, free: NDArray[np.bool_]) -> F64:
    """Minimise over the free parameters by Fisher scoring; the others are at the floor.

    The loss is convex: 1 - (1 - sigmoid(z))^g is the distribution function of a log-concave
    density.
    """
    theta = np.where(free, _PRIOR, SLOPE_FLOOR)
    for _ in range(NEWTON_STEPS):
        s = sigmoid(design @ theta)
        q = np.clip(so_far(s, g), FLOOR, 1 - FLOOR)
        # dq/dz = g s (1 - q)
        residual = weights * g * s * (q - y) / q
        gradient = design.T @ residual + PRIOR_USERS * (theta - _PRIOR)
        information = weights * (g * s) ** 2 * (1 - q) / q
        curvature = (design * information[:, None]).T @ design
        curvature += PRIOR_USERS * np.eye(3)
        step = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        before = _loss(design, y, weights, g, theta)
        scale = 1.0
        while scale > CONVERGED:
            moved = theta.copy()
            moved[free] -= scale * step
            if _loss(design, y, weights, g, moved) <= before:
                break
            scale /= 2
        else:
            break
        theta = moved
        if float(np.abs(scale * step).max()) < CONVERGED:
            break
    return theta


def _loss(design: F64, y: F64, weights: F64, g: F64, theta: F64) -> float:
    # -log of what stays out so far, of which the loss of what came follows.
    out = g * np.logaddexp(0, design @ theta)
    losses = np.where(y > 0, -np.log(-np.expm1(-np.maximum(out, FLOOR))), out)
    return float(weights @ losses + 0.5 * PRIOR_USERS * ((theta - _PRIOR) ** 2).sum())
