"""Platt calibration of logits on a slice of time that the fit has not seen.

Platt, "Probabilistic Outputs for Support Vector Machines" (1999): p = sigmoid(slope * x + shift).
A slope of 1 and a shift of 0 leave the model as it is; the fit is drawn to them by a prior worth a
few points of weight 1, so that a small slice cannot bend a good model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluate import sigmoid

PRIOR_POINTS: Final = 4.0
"""Strength of the pull towards the identity, in points."""
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
    logits: NDArray[Any], labels: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> Platt:
    """Maximum a posteriori slope and shift by Newton's method.

    Args:
        logits: raw logits [N] of one target.
        labels: what came true, 0 or 1, [N].
        weights: of the points [N]; None: 1.

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
    prior = np.array([1.0, 0.0])
    theta = prior.copy()
    for _ in range(NEWTON_STEPS):
        p = sigmoid(design @ theta)
        gradient = design.T @ (w * (p - y)) + PRIOR_POINTS * (theta - prior)
        curvature = (design * (w * p * (1 - p))[:, None]).T @ design + PRIOR_POINTS * np.eye(2)
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
