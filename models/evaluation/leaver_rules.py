"""Which rule finds most of those who leave at one precision, and how early. Pure; times in ms.

Gone is the user's own: no order within ``factor`` of the user's expected gaps between orders, at
least ``floor``. After each order of a user who has enough of them a rule is asked again and again
for a score, until the next order; it alerts the first time that the score reaches a threshold. The
alert is right when no order follows within the user's horizon. An order is lost when none follows
within the horizon, and found when the alert came by then; the lead is the time from the alert to
the end of that horizon. All rules are asked at the same times about the same orders, and a rule's
curve over all thresholds is compared at the precision of another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.targets import Target

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
NONE: Final = 2**62
QUESTIONS: Final = 60
"""Per horizon of a user, at most two a day."""
LONGEST: Final = 2.5
"""Horizons after an order during which a rule is asked."""
QUANTILES: Final = np.concatenate([np.linspace(0.02, 0.98, 60), np.linspace(0.981, 0.9999, 25)])
_STEPS: Final = 30
_RIDGE: Final = 1e-3


@dataclass(frozen=True)
class Times:
    """What is known of a user afterwards."""

    events: I64
    """[N] times of all events, ascending."""
    orders: I64
    """[M] times of the orders, ascending, each once."""


@dataclass(frozen=True)
class Own:
    """When a user counts as gone."""

    factor: float
    """Expected gaps without an order."""
    floor: int
    prior_gap: int
    """The gap that is assumed of a user, with the weight of one."""
    longest: int | None = None
    """Longest horizon. With one, an outcome counts as known after it alone: else the newest ones
    would be of those who buy often."""

    @classmethod
    def of(cls, churn: Target, prior_gap: int) -> Own:
        """What a model's target calls gone; `prior_gap` where the same horizon holds for all."""
        if not churn.gaps:
            return cls(0.0, churn.horizon_ms, prior_gap, churn.horizon_ms)
        return cls(churn.gaps, churn.floor_ms, churn.prior_gap_ms, churn.horizon_ms)

    def gap(self, orders: I64) -> float:
        """Expected gap after the last of some orders."""
        known = len(orders) - 1
        return float((orders[-1] - orders[0] + self.prior_gap) / (known + 1))

    def horizon(self, orders: I64) -> int:
        """How long without an order is gone, ms."""
        wanted = self.factor * self.gap(orders)
        return int(max(self.floor, wanted if self.longest is None else min(wanted, self.longest)))


@dataclass(frozen=True)
class Question:
    """An order after which a rule is asked."""

    events: I64
    """[N] times of all of the user's events."""
    begin: int
    """Time of the order."""
    end: int
    """No question at or after it."""
    gap: float
    """Expected between the user's orders."""
    horizon: int


def regularly(asked: Question) -> I64:
    """Twice a day, or `QUESTIONS` times per horizon."""
    step = max(DAY // 2, asked.horizon // QUESTIONS)
    return np.arange(asked.begin + DAY // 2, asked.end, step)


@dataclass(frozen=True)
class AtTimers:
    """When the engine's timers evaluate a user; defaults are those of the demo's plans."""

    gap_factor: float = 0.25
    """Expected gaps after an event."""
    recheck_factor: float = 1.25
    """From then on whenever the inactivity has grown by this factor."""
    min_gap: int = DAY

    def __call__(self, asked: Question) -> I64:
        """The times after an order, each event beginning anew, ms."""
        events = asked.events[(asked.events >= asked.begin) & (asked.events < asked.end)]
        first = max(self.min_gap, int(self.gap_factor * asked.gap))
        steps = [first]
        while steps[-1] < asked.end - asked.begin:
            steps.append(int(steps[-1] * self.recheck_factor))
        at = events[:, None] + np.array(steps)
        ends = np.append(events[1:], asked.end)
        found: I64 = at[at < ends[:, None]]
        return found


@dataclass(frozen=True)
class Asked:
    """N questions about M orders."""

    order: NDArray[np.intp]
    """[N] which order."""
    at: I64
    """[N]"""
    features: F64
    """[N,F]; see `FEATURES`."""
    last: I64
    """[M] time of the order."""
    following: I64
    """[M] time of the next one, `NONE`."""
    horizon: I64
    """[M]"""
    user: NDArray[np.intp]
    """[M] which of the shop's users, in their order."""
    settled: I64
    """[M] how long after a question its outcome counts as known, and likewise after an order."""

    @property
    def gone(self) -> NDArray[np.bool_]:
        """[N] whether no order follows within the horizon after the question."""
        return self.following[self.order] > self.at + self.horizon[self.order]


FEATURES: Final = (
    "inactivity",
    "since_order",
    "gap",
    "since_order_by_gap",
    "inactivity_by_gap",
    "repeats",
    "longest_gap",
    "since_order_by_longest",
    "spread_of_gaps",
    "span",
    "events",
    "inactivity_squared",
    "since_order_by_gap_squared",
)
"""Logarithms; of times in hours."""


@dataclass(frozen=True)
class Found:
    """What a rule does at one threshold."""

    raised: int
    precision: float
    recall: float
    lead_days: float


def ask(
    shop: Mapping[Any, Times],
    own: Own,
    min_orders: int,
    until: int,
    moments: Callable[[Question], I64] = regularly,
    since: int = 0,
) -> Asked:
    """All questions that a shop's log allows up to ``until``.

    Args:
        shop: user -> events and orders.
        own: when a user counts as gone.
        min_orders: orders from which on a user can be lost.
        until: end of the log, ms.
        moments: when a rule is asked after an order.
        since: orders before it are not asked about, ms.
    """
    order, at, rows = [], [], []
    last: list[int] = []
    following: list[int] = []
    horizon: list[int] = []
    users: list[int] = []
    for user, times in enumerate(shop.values()):
        events, orders = times.events, times.orders
        for number in range(max(min_orders, 1) - 1, len(orders)):
            begin = int(orders[number])
            if begin < since:
                continue
            after = int(orders[number + 1]) if number + 1 < len(orders) else NONE
            gap, away = own.gap(orders[: number + 1]), own.horizon(orders[: number + 1])
            end = min(after, begin + int(LONGEST * away), until)
            times_asked = moments(Question(events, begin, end, gap, away))
            if len(times_asked):
                order.append(np.full(len(times_asked), len(last), np.intp))
                at.append(times_asked)
                rows.append(_features(times_asked, events, orders[: number + 1], gap))
            last.append(begin)
            following.append(after)
            horizon.append(away)
            users.append(user)
    return Asked(
        np.concatenate(order),
        np.concatenate(at),
        np.concatenate(rows),
        np.array(last, np.int64),
        np.array(following, np.int64),
        np.array(horizon, np.int64),
        np.array(users, np.intp),
        np.array(horizon, np.int64) if own.longest is None else np.full(len(last), own.longest),
    )


def _features(at: I64, events: I64, orders: I64, gap: float) -> F64:
    seen = np.searchsorted(events, at, side="right")
    inactivity, since = at - events[seen - 1], at - orders[-1]
    gaps = np.diff(orders)
    longest = float(gaps.max()) if len(gaps) else gap
    spread = float(gaps.std()) if len(gaps) > 1 else gap
    size = len(at)
    by_gap = np.log1p(since / gap)
    hours = np.log1p(inactivity / HOUR)
    return np.stack(
        [
            hours,
            np.log1p(since / HOUR),
            np.full(size, np.log1p(gap / HOUR)),
            by_gap,
            np.log1p(inactivity / gap),
            np.full(size, np.log1p(len(orders) - 1)),
            np.full(size, np.log1p(longest / HOUR)),
            np.log1p(since / max(longest, 1)),
            np.full(size, np.log1p(spread / gap)),
            np.full(size, np.log1p((orders[-1] - orders[0]) / HOUR)),
            np.log1p(seen),
            hours**2,
            by_gap**2,
        ],
        axis=1,
    )


def column(asked: Asked, name: str) -> F64:
    """The feature of that name as a score [N]."""
    found: F64 = asked.features[:, FEATURES.index(name)]
    return found


def logistic(asked: Asked, until: int) -> F64:
    """Probabilities [N] of a logistic regression on questions whose outcome is known by ``until``.

    Each order has the weight of the square root of its questions (Newton's method, a small ridge).
    """
    known = np.flatnonzero(asked.at + asked.settled[asked.order] <= until)
    x, y = asked.features[known], asked.gone[known].astype(np.float64)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    sizes = np.bincount(asked.order[known], minlength=len(asked.last))
    weight = 1 / np.sqrt(sizes[asked.order[known]])
    x = np.column_stack([(x - mean) / spread, np.ones(len(x))])
    theta, ridge = np.zeros(x.shape[1]), np.full(x.shape[1], _RIDGE * weight.sum())
    ridge[-1] = 0
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -30, 30)))
        slope = x.T @ (weight * (p - y)) + ridge * theta
        bend = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(ridge + 1e-9)
        step = np.linalg.solve(bend, slope)
        theta -= step
        if np.abs(step).max() < 1e-8:  # noqa: PLR2004
            break
    whole = np.column_stack([(asked.features - mean) / spread, np.ones(len(asked.at))])
    found: F64 = 1 / (1 + np.exp(-np.clip(whole @ theta, -30, 30)))
    return found


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
    thresholds = np.unique(np.quantile(scores[counts[asked.order]], QUANTILES))
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
