"""Which risk raises as many alerts a day as a budget allows, by the newest evaluations at timers.

A walk through the moments at which timers evaluate users, by the rules of the alert state machine
(`stream.pipeline.alerts`): at timers only, after the dwell within one inactivity, once per order,
and after the cool-down that an order behind an open alert leaves. How many alerts there would have
been needs no label, so the newest days count. Alerts of the holdout arm need no capacity and do not
count; arms are drawn by hash, so their share is taken off.

Two things are known less exactly than by the engine: an alert that a visit ends begins its
cool-down at the next order here, and retractions are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Examples
from models.inputs.features import HOUR, unlogged
from models.serving.thresholds import Budget

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

DAY: Final = 86_400_000
WEEK: Final = 7
FEWEST: Final = 50
"""Evaluations within the window below which nothing is known."""
LEAST: Final = 10
"""Alerts that a budget makes within the window, at least: of fewer the mean is chance."""
_SAME: Final = 60_000
"""Inactivities whose beginnings are nearer are one, ms: features are in single precision."""

_MORE: Final = (
    "collect more events or lengthen recalibrate.window_ms, of which four times as much counts"
)


@dataclass(frozen=True)
class AlertRules:
    """What is asked for, and how the engine turns risks into alerts. Times in ms."""

    per_day: float
    """Alerts a day, of the whole shop, in the treatment arm."""
    treated: float = 1.0
    """Share of the alerts in the treatment arm."""
    dwell_ms: int = 0
    cooldown_ms: int = 7 * DAY
    window_ms: int = 28 * DAY
    """Days by whose alerts the threshold is chosen; whole weeks of it count, if it has one."""


@dataclass(frozen=True)
class Evaluations:
    """N evaluations of users by timers, by user and time. Times in ms."""

    user: NDArray[np.uint64]
    orders: I64
    """[N] orders of the user so far."""
    now: I64
    ordered: I64
    """[N] the user's last order."""
    since: I64
    """[N] the user's last event."""
    risk: F64

    @classmethod
    def of(cls, timers: Examples, risk_N: F64) -> Evaluations:
        """Those that examples at timers stand for, with the risks [N] that are served."""
        order = np.lexsort((timers.now, timers.user))
        now = timers.now[order]
        return cls(
            timers.user[order],
            np.rint(unlogged(timers.profile, "log_orders")[order]).astype(np.int64),
            now,
            now - _hours(timers, "log_since_purchase_hours")[order],
            now - _hours(timers, "log_silence_hours")[order],
            risk_N[order],
        )


@dataclass(frozen=True)
class Walk:
    """The alerts of any threshold among N evaluations."""

    evaluated: Evaluations
    rules: AlertRules
    first_of_user: Bools
    """[N] the first evaluation of its user."""
    known: Bools
    """[N] every evaluation since the order is there. Of an order from before the first evaluation
    of all, a risk that is high when the user is first seen has raised its alert before."""

    @classmethod
    def of(cls, evaluated: Evaluations, rules: AlertRules) -> Walk:
        """`evaluated` by user and time."""
        first = np.append(True, evaluated.user[1:] != evaluated.user[:-1])[: len(evaluated.now)]
        earliest = evaluated.now.min(initial=np.iinfo(np.int64).max)
        return cls(evaluated, rules, first, evaluated.ordered >= earliest)

    def alerts(self, threshold: float) -> I64:
        """When the alerts of a threshold are raised, ms, in any order."""
        evaluated, rules = self.evaluated, self.rules
        hot = np.flatnonzero(evaluated.risk >= threshold)
        follows = np.diff(hot, prepend=-2) == 1
        before = np.maximum(hot - 1, 0)
        same = (evaluated.user[before] == evaluated.user[hot]) & (
            np.abs(evaluated.since[before] - evaluated.since[hot]) < _SAME
        )
        begins = ~(follows & same)
        seen_before = self.first_of_user[hot] & ~self.known[hot]
        raised: list[int] = []
        last_user, alerted, free, pending = -1, -1, -(1 << 62), -1
        rows = zip(
            evaluated.user[hot].tolist(),
            evaluated.orders[hot].tolist(),
            evaluated.now[hot].tolist(),
            evaluated.ordered[hot].tolist(),
            begins.tolist(),
            seen_before.tolist(),
            strict=True,
        )
        for user, orders, now, ordered, fresh, earlier in rows:
            if user != last_user:
                last_user, alerted, free = user, -1, -(1 << 62)
            if alerted == orders:
                continue
            if alerted >= 0:
                # The order has ended the alert of the one before.
                alerted, free = -1, ordered + rules.cooldown_ms
            if earlier:
                alerted = orders
                continue
            if fresh or now < free:
                pending = -1
            if now < free:
                continue
            pending = now if pending < 0 else pending
            if now - pending >= rules.dwell_ms:
                alerted = orders
                raised.append(now)
        return np.array(raised, np.int64)


def find_budget(
    evaluated: Evaluations, rules: AlertRules, until: int, sampled: float = 1.0
) -> Budget:
    """The lowest risk whose alerts average the budget or less; says why where there is none.

    Args:
        evaluated: of all users, or of a sample; by user and time.
        rules: what is asked for.
        until: end of the days that count, ms.
        sampled: share of the users that `evaluated` is of.
    """
    begin, days = _window(evaluated, rules, until)
    inside = (evaluated.now > begin) & (evaluated.now <= until)
    evaluations = int(inside.sum())
    scale = rules.treated / sampled
    if evaluations < FEWEST:
        why = f"{evaluations} evaluations by timers within {days:.1f} days, at least {FEWEST}"
        return Budget(rules.per_day, None, f"{why} are needed: {_MORE}", days=days)
    if rules.per_day * days < LEAST * scale:
        why = (
            f"{rules.per_day:g} a day make {rules.per_day * days / scale:.1f} alerts in the"
            f" {days:.1f} days that are known, at least {LEAST} are needed: {_MORE}, or raise"
            " churn.alert_budget_per_day"
        )
        return Budget(rules.per_day, None, why, days=days)
    walk = Walk.of(evaluated, rules)

    def rate(threshold: float) -> float:
        at = walk.alerts(threshold)
        return float(((at > begin) & (at <= until)).sum()) * scale / days

    tried = np.unique(evaluated.risk[inside])
    tried = tried[tried > 0]
    low, high = 0, len(tried) - 1
    if high < 0 or rate(float(tried[high])) > rules.per_day:
        why = (
            "even the highest risk has more alerts, because too many users have the same risk:"
            " raise churn.alert_budget_per_day"
        )
        return Budget(rules.per_day, None, why, days=days)
    if (most := rate(float(tried[low]))) <= rules.per_day:
        why = (
            f"all evaluations together raise {most:.1f} a day, which is no more than the budget:"
            " lower churn.alert_budget_per_day or unset it"
        )
        return Budget(rules.per_day, None, why, days=days)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rate(float(tried[middle])) > rules.per_day else (low, middle)
    found = Budget(
        rules.per_day,
        float(tried[high]),
        "the lowest risk whose alerts average the budget or less",
        days=days,
    )
    return expected(found, evaluated, rules, until, float(tried[high]), sampled)


def expected(
    found: Budget,
    evaluated: Evaluations,
    rules: AlertRules,
    until: int,
    threshold: float,
    sampled: float = 1.0,
) -> Budget:
    """The budget with the alerts a day of a threshold: their mean, median and 95 % of the days."""
    begin, days = _window(evaluated, rules, until)
    at = Walk.of(evaluated, rules).alerts(threshold)
    at = at[(at > begin) & (at <= until)]
    scale = rules.treated / sampled
    whole = max(int(days), 1)
    each = np.bincount((at - begin - 1) // DAY, minlength=whole)[:whole] * scale
    median, high = (float(value) for value in np.quantile(each, (0.5, 0.95)))
    return Budget(
        found.per_day,
        found.risk,
        found.why,
        days=days,
        expected=len(at) * scale / days,
        median=median,
        high=high,
    )


def _window(evaluated: Evaluations, rules: AlertRules, until: int) -> tuple[int, float]:
    """(begin, days) of the window: whole weeks, if there is one."""
    begin = max(until - rules.window_ms, int(evaluated.now.min(initial=until)))
    weeks = (until - begin) // (WEEK * DAY)
    begin = until - weeks * WEEK * DAY if weeks else begin
    return begin, max(until - begin, 1) / DAY


def _hours(timers: Examples, name: str) -> I64:
    """A feature that is the logarithm of hours, as ms."""
    spans: I64 = np.rint(unlogged(timers.profile, name) * HOUR).astype(np.int64)
    return spans
