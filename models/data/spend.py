"""Expected spend: a head for the amount that a user will spend within a horizon.

Waits can be put into bins, amounts cannot: most are zero and a few are huge. A regression of the
logarithm needs a model of the zeros and a correction on the way back, and is wrong by both. What is
wanted is the mean, and for a mean there is a loss that needs neither: of an amount bounded by
`Target.most` the share is a label between 0 and 1, and the cross-entropy with the head's sigmoid is
least at its conditional mean, whatever the distribution (Papke and Wooldridge, "Econometric methods
for fractional response variables", Journal of Applied Econometrics, 1996). Where shares are small
it is the Poisson pseudo-likelihood of an exponential mean (Santos Silva and Tenreyro, "The log of
gravity", 2006). So architectures, loss, calibration and gate are those of any other target, and the
expected spend is the calibrated sigmoid times the bound.

What is spent beyond the bound does not count: that makes the mean one that data can tell.

Shapes: N points.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.evaluate import F64, calibration_error, figures, log_loss, ranks
from models.history import AMOUNT_UNIT, I64
from models.targets import AMOUNT, SPEND, Target

FLOOR: Final = 1e-9
"""Share of the mean below which an expected amount counts as if it were that."""


def spend_target(event_type: int, horizon_ms: int, most: float) -> Target:
    """The spend in events of a type, in currency units, of which no more than `most` counts.

    Raises:
        ModelError: `most` is not above 0.
    """
    if not most > 0:
        raise ModelError(f"the bound of a spend must be above 0, not {most}")
    return Target(SPEND, AMOUNT, event_type, horizon_ms, most=most)


def shares(spent_N: I64, most: float) -> F64:
    """Labels [N]: amounts in 1 / AMOUNT_UNIT as shares of the bound, at most 1."""
    return np.minimum(spent_N / (AMOUNT_UNIT * most), 1.0)


def figures_of(target: Target, labels_N: NDArray[Any], said_N: NDArray[Any]) -> dict[str, float]:
    """All figures of a target; of a spend those of `spend_figures` beside what is shared."""
    if target.kind != AMOUNT:
        return figures(labels_N, said_N)
    return {
        "base_rate": float(np.mean(labels_N)),
        "log_loss": log_loss(labels_N, said_N),
        "ece": calibration_error(labels_N, said_N),
        **spend_figures(labels_N * target.most, said_N * target.most),
        "points": float(len(labels_N)),
    }


def spend_figures(spent_N: NDArray[Any], expected_N: NDArray[Any]) -> dict[str, float]:
    """How good expected amounts are.

    Returns:
        mae: mean absolute error, in the amounts' unit. The smallest is that of medians, not means.
        bias: sum of what was expected over that of what was spent, less 1.
        spearman: rank correlation; NaN where all are expected to spend the same.
        gini: of the spend by expected rank, over that of the perfect order (1).
        deviance: Poisson's, over the mean spend; least for the true mean.
    """
    y, expected = np.asarray(spent_N, np.float64), np.asarray(expected_N, np.float64)
    mean = float(y.mean())
    if mean == 0:
        return dict.fromkeys(("mae", "bias", "spearman", "gini", "deviance"), float("nan"))
    bounded = np.maximum(expected, FLOOR * mean)
    ratio = np.where(y > 0, y, bounded) / bounded
    perfect = _concentration(y, y)
    return {
        "mae": float(np.abs(y - expected).mean()),
        "bias": float(expected.sum() / y.sum() - 1),
        "spearman": _correlation(ranks(y), ranks(expected)),
        "gini": _concentration(y, expected) / perfect if perfect else float("nan"),
        "deviance": float(2 * (y * np.log(ratio) - (y - bounded)).mean() / mean),
    }


def _concentration(amounts: F64, scores: F64) -> float:
    """Area between the curve of the amounts' share by descending score and the diagonal.

    Points of equal score count with their mean, so that their order does not.
    """
    _, group = np.unique(-scores, return_inverse=True)
    counts = np.bincount(group)
    sums = np.bincount(group, weights=amounts)
    reached = np.append(0.0, np.cumsum(sums) / sums.sum())
    at = np.append(0.0, np.cumsum(counts) / len(amounts))
    return float(np.trapezoid(reached, at)) - 0.5


def _correlation(one: F64, other: F64) -> float:
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("nan")
