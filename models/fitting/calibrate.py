"""Platt calibration of logits on a slice of time that the fit has not seen.

Platt, "Probabilistic Outputs for Support Vector Machines" (1999): p = sigmoid(slope * x + shift).
A slope of 1 and a shift of 0 leave the model as it is. Gaussian priors draw the fit to them, so
that a small slice cannot bend a good model: weakly to the shift, because the level of a shop
drifts, and strongly to the slope of a model that is fitted to more labels than calibrate it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluate import sigmoid

PRIOR_POINTS: Final = 4.0
"""Precision of the prior of the shift, and of the slope where no other is given: a standard
deviation of 0.5."""
SLOPE_POINTS: Final = 100.0
"""Precision of the prior of a fitted model's slope: a standard deviation of 0.1."""
NEWTON_STEPS: Final = 50
SLOPE_FLOOR: Final = 0.05
CONVERGED: Final = 1e-10


@dataclass(frozen=True)
class Platt:
    """One target's calibration."""

    slope: float
    shift: float

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Calibrated probabilities [N] of raw logits [N]."""
        return sigmoid(self.slope * np.asarray(logits, np.float64) + self.shift)


IDENTITY: Final = Platt(1.0, 0.0)


def fit_platt(
    logits: NDArray[Any],
    labels: NDArray[Any],
    weights: NDArray[np.float64] | None = None,
    slope_points: float = PRIOR_POINTS,
) -> Platt:
    """Maximum a posteriori slope and shift by Newton's method.

    Args:
        logits: raw logits [N] of one target.
        labels: what came true, 0 or 1, [N].
        weights: of the points [N]; None: 1.
        slope_points: precision of the prior of the slope.

    Returns:
        The calibration; the identity where N is 0. A slope below `SLOPE_FLOOR` is raised to it: a
        calibration never turns a ranking around.
    """
    x = np.asarray(logits, np.float64)
    y = np.asarray(labels, np.float64)
    w = np.ones_like(x) if weights is None else weights
    if len(x) == 0:
        return IDENTITY
    design = np.stack([x, np.ones_like(x)], axis=1)
    prior, pull = np.array([1.0, 0.0]), np.array([slope_points, PRIOR_POINTS])
    theta = prior.copy()
    for _ in range(NEWTON_STEPS):
        p = sigmoid(design @ theta)
        gradient = design.T @ (w * (p - y)) + pull * (theta - prior)
        curvature = (design * (w * p * (1 - p))[:, None]).T @ design + np.diag(pull)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))
        theta -= step
        if float(np.abs(step).max()) < CONVERGED:
            break
    if theta[0] < SLOPE_FLOOR:
        return Platt(SLOPE_FLOOR, _shift_only(SLOPE_FLOOR * x, y, w))
    return Platt(float(theta[0]), float(theta[1]))


def _shift_only(
    logits: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    shift = 0.0
    for _ in range(NEWTON_STEPS):
        p = sigmoid(logits + shift)
        slope = float((weights * p * (1 - p)).sum()) + PRIOR_POINTS
        step = (float((weights * (p - labels)).sum()) + PRIOR_POINTS * shift) / slope
        shift -= float(np.clip(step, -1, 1))
        if abs(step) < CONVERGED:
            break
    return shift
