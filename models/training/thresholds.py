"""Which risk raises alerts of a wanted precision or number: the lowest, by evaluations at timers.

An alert is raised at the first timer after an order at which the risk reaches the threshold. Whose
alert was right is known after the horizon. For every threshold at once: a moment is the alert of
the thresholds between the highest risk before it, since the order, and its own. Where a number of
alerts a day is asked for too (`models.training.budget`), the stricter of both thresholds holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.data.dataset import Examples
from models.fitting.fit import predict_probabilities
from models.inputs.features import unlogged
from models.networks.base import Network
from models.serving.thresholds import Budget, RaiseAt
from models.targets import CHURN, column_of
from models.training.budget import AlertRules, Evaluations, expected, find_budget
from models.training.gather import Gathered
from models.training.refit import held_out

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEWEST: Final = 50
"""Alerts of which a precision is known well enough to choose a threshold by it."""
_Z: Final = 1.96


@dataclass(frozen=True)
class Looks:
    """N evaluations of users by timers."""

    user: NDArray[np.uint64]
    orders: I64
    """[N] orders of the user so far."""
    now: I64
    """[N] ms."""
    risk: F64
    gone: F64
    """[N] 1: no order followed in time; NaN: that is not known."""
    counts: Mask
    """[N] an alert of this moment is one to choose by."""


def looks_of(examples: Examples, risk_N: F64, column: int, counts_N: Mask) -> Looks:
    """The evaluations that examples at timers stand for.

    Args:
        examples: at timers.
        risk_N: of all of them.
        column: of churn among their targets.
        counts_N: whose labels are new and were not learnt from.
    """
    orders = np.rint(unlogged(examples.profile, "log_orders")).astype(np.int64)
    gone = examples.settled[:, column].astype(np.float64)
    return Looks(examples.user, orders, examples.now, risk_N, gone, counts_N)


def learnt_threshold(
    network: Network,
    gathered: Gathered,
    precision: float | None,
    budget: AlertRules | None = None,
    *,
    refit: bool,
) -> RaiseAt | None:
    """The threshold of a network that is to be served, by labels that it did not learn from.

    After a refit these are the newest ones of the users that are held out for that
    (`models.training.refit`), some of which calibrated it; else those of the last slice. A budget
    counts the alerts of the last days of all users.
    """
    timers, targets = gathered.timers, gathered.targets
    column = column_of(targets, CHURN)
    if (precision is None and budget is None) or timers is None or column is None:
        return None
    edge, grace = gathered.split.edges[2], gathered.split.grace_ms
    ends = timers.now + targets[column].horizon_ms + grace
    counts = held_out(timers.user) & (ends > edge) if refit else timers.now > edge
    points = np.arange(len(timers))
    if not len(points):
        why = "no inactive user has churn.min_orders orders: collect more events"
        none = None if budget is None else Budget(budget.per_day, None, why)
        return RaiseAt(precision, None, why, budget=none)
    risk = predict_probabilities(network, timers, points)[:, column]
    until = gathered.split.edges[3] - grace
    evaluated = Evaluations.of(timers, risk)
    return thresholds_for(
        looks_of(timers, risk, column, counts),
        evaluated,
        precision,
        budget,
        until,
        gathered.sampled,
    )


def thresholds_for(
    looks: Looks,
    evaluated: Evaluations,
    precision: float | None,
    budget: AlertRules | None,
    until: int,
    sampled: float = 1.0,
) -> RaiseAt:
    """The thresholds that are asked for, and which of them holds: the stricter one.

    Args:
        looks: with the labels that count for the precision.
        evaluated: all evaluations, for the budget.
        precision: None: not asked for.
        budget: None: not asked for.
        until: end of the days whose alerts are counted, ms.
        sampled: share of the users that the evaluations are of.
    """
    found = RaiseAt(None) if precision is None else find_threshold(looks, precision)
    if budget is None:
        return replace(found, bound=None if found.risk is None else "precision")
    count = find_budget(evaluated, budget, until, sampled)
    by_count = count.risk is not None and (found.risk is None or count.risk > found.risk)
    both = replace(found, budget=count)
    holds = both.threshold
    if holds is None:
        return both
    if by_count:
        both = _Counted.of(looks).at(holds, both)
    if holds != count.risk:
        count = expected(count, evaluated, budget, until, holds, sampled)
    return replace(both, budget=count, bound="budget" if by_count else "precision")


@dataclass(frozen=True)
class _Counted:
    """The moments of which one is the alert of each threshold, M of them."""

    before: F64
    """[M] highest risk before, since the order."""
    risk: F64
    """[M]"""
    gone: F64
    """[M] whether an alert is right."""
    group: I64
    """[M] which user and order."""
    tried: F64
    """[T] all risks, ascending."""
    users: int

    @classmethod
    def of(cls, looks: Looks) -> _Counted:
        order = np.lexsort((looks.now, looks.orders, looks.user))
        user, orders, risk = looks.user[order], looks.orders[order], looks.risk[order]
        begins = np.append(True, (user[1:] != user[:-1]) | (orders[1:] != orders[:-1]))[: len(user)]
        before = _highest_before(risk, begins)
        known = looks.counts[order] & ~np.isnan(looks.gone[order])
        first = np.flatnonzero(known & (risk > before))
        group = np.cumsum(begins) - 1
        users = len(np.unique(user[known]))
        gone = looks.gone[order][first]
        return cls(before[first], risk[first], gone, group[first], np.unique(risk), users)

    def at(self, threshold: float, found: RaiseAt) -> RaiseAt:
        """`found` with the figures of the alerts of a threshold."""
        raised = (self.before < threshold) & (self.risk >= threshold)
        count = int(raised.sum())
        share = float(self.gone[raised].mean()) if count else 0.0
        low, high = wilson(share, count) if count else (0.0, 0.0)
        lost = np.unique(self.group[self.gone > 0])
        alerted = np.unique(self.group[raised & (self.gone > 0)])
        return replace(
            found,
            alerts=count,
            users=self.users,
            right=share,
            low=low,
            high=high,
            lost=len(lost),
            found=len(alerted),
        )


def find_threshold(looks: Looks, precision: float) -> RaiseAt:
    """The lowest risk at which the alerts have the precision; says why where there is none."""
    counted = _Counted.of(looks)
    users, tried = counted.users, counted.tried
    if len(counted.risk) < FEWEST:
        why = f"{len(counted.risk)} moments at which alerts could have been raised"
        return RaiseAt(precision, None, f"{why}, at least {FEWEST} are needed", users=users)
    alerts = _at_each(tried, counted.before, counted.risk, np.ones(len(counted.risk)))
    right = _at_each(tried, counted.before, counted.risk, counted.gone)
    shares = right / np.maximum(alerts, 1)
    fits = np.flatnonzero((alerts >= FEWEST) & (shares >= precision))
    if not len(fits):
        best = float(shares[alerts >= FEWEST].max(initial=0.0))
        why = f"no threshold with {FEWEST} alerts reaches it, the best has {best:.3f}"
        return RaiseAt(precision, None, why, users=users)
    risk = float(tried[int(fits[0])])
    why = "the lowest risk with this precision on labels that were not learnt from"
    return counted.at(risk, RaiseAt(precision, risk, why))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Interval, 95 %, of a share of `count` (Wilson, JASA, 1927)."""
    square = _Z * _Z
    centre = (share + square / (2 * count)) / (1 + square / count)
    spread = share * (1 - share) / count + square / (4 * count * count)
    half = _Z / (1 + square / count) * float(np.sqrt(spread))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _highest_before(risk_N: F64, begins_N: Mask) -> F64:
    """The highest risk before each of N moments since its order; -1 at the first."""
    before = np.full(len(risk_N), -1.0)
    highest = -1.0
    for i, (risk, begins) in enumerate(zip(risk_N.tolist(), begins_N.tolist(), strict=True)):
        highest = -1.0 if begins else highest
        before[i] = highest
        highest = max(highest, risk)
    return before


def _at_each(tried_T: F64, above_M: F64, upto_M: F64, value_M: F64) -> F64:
    """Sum of the values of the moments whose alert each threshold is: above < threshold <= upto."""
    total = np.zeros(len(tried_T) + 1)
    np.add.at(total, np.searchsorted(tried_T, above_M, side="right"), value_M)
    np.subtract.at(total, np.searchsorted(tried_T, upto_M, side="right"), value_M)
    return np.cumsum(total)[:-1]
