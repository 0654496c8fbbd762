"""One model for every horizon: hazards of the next purchase in discrete time.

Time after a point is cut into bins; the hazard of a bin is the probability that the purchase falls
into it, given that it did not come earlier. Each bin is a target of its own (`targets.HAZARD`),
whose label is unknown where the purchase came before the bin or the data ends within it. The sum of
the bins' cross-entropies over what is known then is the likelihood of censored waiting times
(Singer and Willett, "It's About Time", 1993; for networks Gensheimer and Narasimhan, PeerJ 2019),
so architectures, loss, calibration and gate are those of any other target.

Within a bin, and beyond the last, the purchase comes at a constant rate.

Shapes: N points, J bins, K targets. Sums run over the bins one after the other, never in a matrix
product, so that a point has the same bits in any company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.targets import HAZARD, Target

F64 = NDArray[np.float64]

HAZARD_CEILING: Final = 1 - 1e-9
"""A hazard of 1 would have an infinite rate."""


def hazard_targets(event_type: int, edges_ms: Sequence[int]) -> tuple[Target, ...]:
    """One target per bin: from one edge, or from now, to the next.

    Args:
        event_type: type code of the event that is waited for.
        edges_ms: ends of the J bins, ms after now.

    Raises:
        ModelError: the edges are not positive and ascending.
    """
    begins = (0, *edges_ms[:-1])
    if not edges_ms or any(b <= a for a, b in zip(begins, edges_ms, strict=True)):
        raise ModelError(
            f"the bins of a hazard must end at ascending times after now: {list(edges_ms)}"
        )
    return tuple(
        Target(f"hazard_{place}", HAZARD, event_type, end, begin)
        for place, (begin, end) in enumerate(zip(begins, edges_ms, strict=True))
    )


@dataclass(frozen=True)
class Bins:
    """Where the hazards are among the targets of a model, and when their bins end."""

    columns: tuple[int, ...]
    """Of the J bins, in the order of time."""
    edges_ms: tuple[int, ...]
    """Ends of the bins, ms after now."""

    @classmethod
    def of(cls, targets: tuple[Target, ...]) -> Bins | None:
        """The bins of a model; None if it has none.

        Raises:
            ModelError: they do not follow one another.
        """
        found = [column for column, target in enumerate(targets) if target.kind == HAZARD]
        if not found:
            return None
        bins = [targets[column] for column in found]
        edges = tuple(target.horizon_ms for target in bins)
        if tuple(target.after_ms for target in bins) != (0, *edges[:-1]):
            raise ModelError(f"the bins of a hazard must follow one another: they end at {edges}")
        return cls(tuple(found), edges)

    def hazards(self, probabilities_NK: NDArray[Any]) -> F64:
        """The hazards [N,J] among the probabilities of all targets."""
        return np.ascontiguousarray(probabilities_NK[:, self.columns], np.float64)


def survival_at_edges(hazards_NJ: NDArray[Any]) -> F64:
    """Probability [N,J] that nothing comes until the end of each bin."""
    return np.exp(-np.cumsum(_rates(hazards_NJ), axis=1))


def survival(hazards_NJ: NDArray[Any], edges_ms: Sequence[int], horizon_ms: int) -> F64:
    """Probability [N] that nothing comes within `horizon_ms`, which may lie anywhere.

    Args:
        hazards_NJ: calibrated probabilities of the targets of `hazard_targets`.
        edges_ms: what those were made of.
        horizon_ms: milliseconds from now.
    """
    begins, widths = _bins(edges_ms)
    passed = np.clip((horizon_ms - begins) / widths, 0, 1)
    passed[-1] = max((horizon_ms - begins[-1]) / widths[-1], 0)
    return np.exp(-_total(_rates(hazards_NJ) * passed))


def expected_wait(hazards_NJ: NDArray[Any], edges_ms: Sequence[int]) -> F64:
    """Expected time [N] to the next event in ms, waiting at most until the last edge.

    The mean without such an end is infinite for whoever may never come back; this one (the
    restricted mean survival time, Royston and Parmar, 2013) is not.
    """
    _, widths = _bins(edges_ms)
    rates = _rates(hazards_NJ)
    before = np.exp(-(np.cumsum(rates, axis=1) - rates))
    # The mean of exp(-rate * u) over u in [0, 1], which is 1 for a rate of 0.
    share = np.where(rates > 0, -np.expm1(-rates) / np.where(rates > 0, rates, 1), 1)
    return _total(before * share * widths)


def _bins(edges_ms: Sequence[int]) -> tuple[F64, F64]:
    ends = np.asarray(edges_ms, np.float64)
    begins = np.append(0.0, ends[:-1])
    return begins, ends - begins


def _total(parts_NJ: F64) -> F64:
    total: F64 = np.cumsum(parts_NJ, axis=1)[:, -1]
    return total


def _rates(hazards_NJ: NDArray[Any]) -> F64:
    """Rate per width of each bin."""
    hazards = np.minimum(np.asarray(hazards_NJ, np.float64), HAZARD_CEILING)
    rates: F64 = -np.log1p(-hazards)
    return rates
