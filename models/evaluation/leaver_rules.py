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

from models.evaluate import sigmoid

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
_STEPS: Final = 30
_RIDGE: Final = 1e-3


@dataclass(frozen=True)
class Times:
    """What is known of a user afterwards."""

    events: I64
    """[N] times of all events, ascending."""
    orders: I64
    """[M] times of the orders, ascending, each once."""


def expected_gaps(orders: I64, at_N: I64, prior_gap: int) -> I64:
    """A user's expected gaps between orders [N] as of some times, ms: `features.expected_gap`."""
    had = np.searchsorted(orders, at_N, side="right")
    if not len(orders):
        return np.full(len(at_N), prior_gap, np.int64)
    span = np.where(had > 0, orders[np.maximum(had - 1, 0)] - orders[0], 0)
    return np.asarray((prior_gap + span) // np.maximum(had, 1))


def inactive_for(events: I64, at_N: I64) -> I64:
    """Since a user's last event at or before each time [N], ms; `NONE` where there is none."""
    if not len(events):
        return np.full(len(at_N), NONE, np.int64)
    before = np.searchsorted(events, at_N, side="right") - 1
    return np.where(before < 0, NONE, at_N - events[np.maximum(before, 0)])


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
        p = sigmoid(x @ theta)
        slope = x.T @ (weight * (p - y)) + ridge * theta
        bend = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(ridge + 1e-9)
        step = np.linalg.solve(bend, slope)
        theta -= step
        if np.abs(step).max() < 1e-8:  # noqa: PLR2004
            break
    whole = np.column_stack([(asked.features - mean) / spread, np.ones(len(asked.at))])
    return sigmoid(whole @ theta)
