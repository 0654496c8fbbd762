"""Were churn alerts right, early and complete: against a shop's later purchases, and a fixed rule.

Pure. Times and durations in ms. Alerts count that were raised while their outcome can still be
known: from the beginning of the evaluated period to one horizon before its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.leaver_rules import DAY, HOUR, NONE, Times, expected_gaps, inactive_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.targets import Target

I64 = NDArray[np.int64]

_FEWEST: Final = 20
"""Alerts of which a precision is known."""


@dataclass(frozen=True)
class Raised:
    """An alert that was raised."""

    user: str
    at: int
    closed: int = NONE
    """When it was resolved or retracted."""
    cause: str = ""


@dataclass(frozen=True)
class Period:
    """What is judged."""

    since: int
    until: int
    """End of the data."""
    horizon: int
    """A user is lost who buys nothing for so long; the longest one where there are own ones."""
    min_orders: int
    """Users with fewer orders do not count as lost."""
    own: Target | None = None
    """The target of churn, where its horizon is the user's own."""

    @property
    def matured(self) -> int:
        """The outcome of what happened before this is known."""
        return self.until - self.horizon

    def ahead(self, orders: I64, at: int) -> int:
        """How long a user with these orders must buy nothing from a time on to be lost."""
        if self.own is None:
            return self.horizon
        gaps = expected_gaps(orders, np.array([at]), self.own.prior_gap_ms)
        return int(self.own.own_horizons(gaps)[0])


@dataclass(frozen=True)
class Quality:
    """Figures of a set of alerts."""

    raised: int
    precision: float | None
    """Share whose user bought nothing within the horizon after the alert."""
    lost: int
    """Orders in the period, of users with `min_orders`, that no order followed within the
    horizon."""
    recall: float | None
    """Share of these with an alert after the order that was still open when the horizon was
    over."""
    alerted: float | None
    """Share of the lost orders with an alert by then, whether it was still open or not: an alert
    that a visit ends found its user all the same."""
    lead_days: float | None
    """Median, over the found ones, of the time from the alert to the end of that horizon: how much
    earlier the alert came than the loss was certain."""
    within_a_day: float | None
    """Share that was raised within a day after an event of the user."""
    at_an_event: float | None
    """Share that was raised at the very time of an event of the user."""
    by_model: float | None
    """Share with the cause "model_change"."""


def quality(alerts: Sequence[Raised], shop: Mapping[str, Times], period: Period) -> Quality:
    """Evaluate alerts; those outside the period do not count."""
    judged = [alert for alert in alerts if period.since <= alert.at < period.matured]
    right = [_right(a, shop, period) for a in judged]
    each = [inactive_for(shop[a.user].events, np.array([a.at])) for a in judged]
    silences = np.concatenate(each) if each else np.zeros(0, np.int64)
    lost, alerted, leads = _found(alerts, shop, period)
    return Quality(
        raised=len(judged),
        precision=_share(right),
        lost=lost,
        recall=len(leads) / lost if lost else None,
        alerted=alerted / lost if lost else None,
        lead_days=float(np.median(leads)) / DAY if leads else None,
        within_a_day=_share(silences <= DAY),
        at_an_event=_share(silences == 0),
        by_model=_share([alert.cause == "model_change" for alert in judged]),
    )


def fixed_rule(shop: Mapping[str, Times], period: Period, inactivity: int) -> list[Raised]:
    """The alerts of "no event for so long": once after each order, of users with `min_orders`."""
    alerts = []
    for user, times in shop.items():
        events, orders = times.events, times.orders
        following = np.append(events[1:], period.until)
        at = events + inactivity
        after = np.searchsorted(orders, events, side="right")
        quiet = np.flatnonzero((following >= at) & (after >= period.min_orders))
        _, first = np.unique(after[quiet], return_index=True)
        for place in quiet[first].tolist():
            number = int(after[place])
            closed = int(orders[number]) if number < len(orders) else NONE
            alerts.append(Raised(user, int(at[place]), closed))
    return alerts


def as_many(shop: Mapping[str, Times], period: Period, count: int) -> tuple[int, list[Raised]]:
    """The shortest inactivity with which the rule raises at most `count` alerts, to the hour."""
    days = 1
    while days * DAY < period.until - period.since and _raises(shop, period, days * DAY) > count:
        days += 1
    low, high = (days - 1) * DAY, days * DAY
    while high - low > HOUR:
        tried = (low + high) // 2
        low, high = (tried, high) if _raises(shop, period, tried) > count else (low, tried)
    return high, fixed_rule(shop, period, high)


def as_precise(
    shop: Mapping[str, Times], period: Period, precision: float
) -> tuple[int, list[Raised]] | None:
    """The shortest inactivity, in half days, with which the rule is so precise; None: none is.

    It is the one that finds most: an alert that comes earlier finds whoever a later one finds.
    """
    for halves in range(1, 2 * (period.until - period.since) // DAY):
        inactivity = halves * DAY // 2
        alerts = fixed_rule(shop, period, inactivity)
        judged = [a for a in alerts if period.since <= a.at < period.matured]
        if len(judged) < _FEWEST:
            return None
        right = [_right(a, shop, period) for a in judged]
        if np.mean(right) >= precision:
            return inactivity, alerts
    return None


def _raises(shop: Mapping[str, Times], period: Period, inactivity: int) -> int:
    """How many alerts the rule raises in the period."""
    alerts = fixed_rule(shop, period, inactivity)
    return sum(period.since <= alert.at < period.matured for alert in alerts)


def orders_of(purchases: I64, gap: int) -> I64:
    """Times of orders: purchases further than `gap` from the one before."""
    if not len(purchases):
        return purchases
    begins = np.flatnonzero(np.diff(purchases, prepend=purchases[0] - gap - 1) > gap)
    return purchases[begins]


def to_json(found: Quality) -> dict[str, Any]:
    """Rounded, for a table."""
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in ((name, getattr(found, name)) for name in Quality.__dataclass_fields__)
    }


def _found(
    alerts: Sequence[Raised], shop: Mapping[str, Times], period: Period
) -> tuple[int, int, list[int]]:
    """How many were lost, how many of these alerted, and how early each found one was found, ms."""
    of_user: dict[str, list[Raised]] = {}
    for alert in alerts:
        of_user.setdefault(alert.user, []).append(alert)
    lost, alerted, leads = 0, 0, []
    for user, times in shop.items():
        orders = times.orders
        for number in range(period.min_orders - 1, len(orders)):
            last = int(orders[number])
            over = last + period.ahead(orders, last)
            known = period.since <= last and last + period.horizon <= period.until
            if not known or not _none_between(orders, last, over):
                continue
            lost += 1
            timely = [a for a in of_user.get(user, ()) if last < a.at <= over]
            alerted += bool(timely)
            mine = [alert.at for alert in timely if over < alert.closed]
            if mine:
                leads.append(over - min(mine))
    return lost, alerted, leads


def _right(alert: Raised, shop: Mapping[str, Times], period: Period) -> bool:
    """Whether an alert's user bought nothing within the horizon after it."""
    orders = shop[alert.user].orders
    return _none_between(orders, alert.at, alert.at + period.ahead(orders, alert.at))


def _none_between(orders: I64, after: int, until: int) -> bool:
    """Whether no order lies in (after, until]."""
    first, end = np.searchsorted(orders, (after, until), side="right")
    return bool(first == end)


def _share(found: Sequence[bool] | NDArray[np.bool_]) -> float | None:
    return float(np.mean(found)) if len(found) else None
