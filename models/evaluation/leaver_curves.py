"""What rules that find leavers do at each of their thresholds: precision, recall and lead. Pure.

All rules are asked about the same orders (`leaver_rules`); times in ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.leaver_rules import DAY, NONE

if TYPE_CHECKING:
    from models.evaluation.leaver_rules import Asked

F64 = NDArray[np.float64]

QUANTILES: Final = np.concatenate([np.linspace(0.02, 0.98, 60), np.linspace(0.981, 0.9999, 25)])


@dataclass(frozen=True)
class Found:
    """What a rule does at one threshold."""

    raised: int
    precision: float
    recall: float
    lead_days: float


@dataclass(frozen=True)
class Tally:
    """What a rule does at each of T thresholds to each of U users."""

    raised_UT: F64
    """Alerts whose outcome is known."""
    right_UT: F64
    """Of these the right ones."""
    found_UT: F64
    """Lost orders that were found."""
    lost_U: F64
    """Lost orders."""
    lead_days_T: F64
    """Median over the found ones; NaN without any."""

    def precision(self, weights_BU: F64) -> F64:
        """[B,T] with so many times each user; NaN without an alert."""
        raised = weights_BU @ self.raised_UT
        with np.errstate(invalid="ignore"):
            found: F64 = (weights_BU @ self.right_UT) / raised
        return found

    def recall(self, weights_BU: F64) -> F64:
        """[B,T] likewise; NaN where nobody is lost."""
        with np.errstate(invalid="ignore"):
            found: F64 = (weights_BU @ self.found_UT) / (weights_BU @ self.lost_U)[:, None]
        return found

    def recall_at(self, precision: float, weights_BU: F64) -> F64:
        """[B] of the threshold of that precision or above that finds most; NaN: none does."""
        good = self.precision(weights_BU) >= precision
        recall = np.where(good, self.recall(weights_BU), -1.0).max(axis=1)
        return np.where(recall > 0, recall, np.nan)


def tally(asked: Asked, scores: F64, since: int, until: int) -> Tally:
    """What a rule does at each of its thresholds after orders of [since, until)."""
    over = asked.last + asked.horizon
    counts = asked.last >= since
    lost = counts & (asked.last + asked.settled <= until) & (asked.following > over)
    thresholds = _thresholds(scores, asked.order, counts)
    users = int(asked.user.max()) + 1
    shape = (users, len(thresholds))
    raised, right, found = (np.zeros(shape) for _ in range(3))
    leads = np.full(len(thresholds), np.nan)
    for place, threshold in enumerate(thresholds):
        hits = np.flatnonzero((scores >= threshold) & counts[asked.order])
        orders, first = np.unique(asked.order[hits], return_index=True)
        hits = hits[first]
        known = hits[asked.at[hits] + asked.settled[asked.order[hits]] <= until]
        by = asked.user[asked.order[known]]
        raised[:, place] = np.bincount(by, minlength=users)
        right[:, place] = np.bincount(by, asked.gone[known], users)
        alert = np.full(len(asked.last), NONE)
        alert[orders] = asked.at[hits]
        mine = lost & (alert <= over)
        found[:, place] = np.bincount(asked.user[mine], minlength=users)
        if mine.any():
            leads[place] = float(np.median((over - alert)[mine])) / DAY
    return Tally(
        raised,
        right,
        found,
        np.bincount(asked.user[lost], minlength=users).astype(np.float64),
        leads,
    )


def _thresholds(scores: F64, order: NDArray[np.intp], counts: NDArray[np.bool_]) -> F64:
    """Quantiles of the scores, and of the highest one after each order that counts.

    The latter say how many alerts there are: without them many more might be raised at the next
    threshold.
    """
    chosen = counts[order]
    highest = np.full(len(counts), -np.inf)
    np.maximum.at(highest, order[chosen], scores[chosen])
    asked = highest[np.isfinite(highest)]
    found: F64 = np.unique(
        np.concatenate([np.quantile(scores[chosen], QUANTILES), np.quantile(asked, QUANTILES)])
    )
    return found


def curve(asked: Asked, scores: F64, since: int, until: int) -> list[Found]:
    """What a rule does at each of its thresholds after orders of [since, until)."""
    return points_of(tally(asked, scores, since, until))


def points_of(counted: Tally) -> list[Found]:
    """The thresholds at which something is found."""
    each = np.ones((1, len(counted.lost_U)))
    precision, recall = counted.precision(each)[0], counted.recall(each)[0]
    raised = counted.raised_UT.sum(axis=0)
    return [
        Found(int(raised[t]), float(precision[t]), float(recall[t]), float(counted.lead_days_T[t]))
        for t in np.flatnonzero((raised > 0) & (recall > 0))
    ]


def best(found: list[Found], precision: float) -> Found | None:
    """The threshold that finds most of those of at least that precision."""
    good = [one for one in found if one.precision >= precision]
    return max(good, key=lambda one: one.recall) if good else None


def to_json(found: Found | None) -> dict[str, Any] | None:
    """Rounded, for a table."""
    if found is None:
        return None
    return {
        "raised": found.raised,
        "precision": round(found.precision, 3),
        "recall": round(float(found.recall), 3),
        "lead_days": round(found.lead_days, 1),
    }
