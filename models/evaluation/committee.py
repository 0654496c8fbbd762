"""Several models' log-odds, weighed on a calibration slice.

The weights start out equal and are drawn there by a prior worth many points, so that a small slice
gives the plain mean and a large one may prefer a member (stacking, Wolpert 1992, with a prior).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.evaluate import F64, sigmoid

PRIOR_POINTS: Final = 1000.0
NEWTON_STEPS: Final = 50
CONVERGED: Final = 1e-10


@dataclass(frozen=True)
class Committee:
    """Weights of M members' log-odds, and what is added."""

    weights: F64
    """[M]."""
    shift: float

    def probabilities(self, logits: F64) -> F64:
        """[N,M] -> [N]."""
        return sigmoid(logits @ self.weights + self.shift)


def fit_committee(logits: F64, labels: F64, prior_points: float = PRIOR_POINTS) -> Committee:
    """Maximum a posteriori weights by Newton's method; with one member this is Platt's calibration.

    Args:
        logits: the members' log-odds on the calibration slice, [N,M].
        labels: what came true, 0 or 1, [N].
        prior_points: strength of the pull towards the plain mean, in points.
    """
    members = logits.shape[1]
    design = np.concatenate([logits, np.ones((len(logits), 1))], axis=1)
    prior = np.append(np.full(members, 1 / members), 0.0)
    theta = prior.copy()
    for _ in range(NEWTON_STEPS):
        p = sigmoid(design @ theta)
        gradient = design.T @ (p - labels) + prior_points * (theta - prior)
        curvature = (design * (p * (1 - p))[:, None]).T @ design
        curvature += prior_points * np.eye(members + 1)
        step = np.linalg.solve(curvature, gradient)
        theta -= np.clip(step, -1, 1)
        if float(np.abs(step).max()) < CONVERGED:
            break
    return Committee(theta[:-1], float(theta[-1]))
