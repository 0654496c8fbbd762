"""Figures of alert quality, counted by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.evaluation.leaver_rules import DAY, Times
from models.history import PURCHASE
from models.targets import shop_targets
from stream.demo.alert_figures import (
    Period,
    Quality,
    Raised,
    as_many,
    as_precise,
    fixed_rule,
    orders_of,
    quality,
)

PERIOD = Period(since=0, until=100 * DAY, horizon=20 * DAY, min_orders=2)


def at(*days: float) -> np.ndarray:
    return np.array([int(day * DAY) for day in days], np.int64)


def user(orders: tuple[float, ...], *visits: float) -> Times:
    return Times(np.sort(np.concatenate([at(*orders), at(*visits)])), at(*orders))


def raised(name: str, day: float, closed: float | None = None, cause: str = "silence") -> Raised:
    ends = {} if closed is None else {"closed": int(closed * DAY)}
    return Raised(name, int(day * DAY), **ends, cause=cause)


SHOP = {
    "gone": user((1, 5)),
    "back": user((1, 5, 12), 11.5),
    "once": user((1,)),
}
"""Lost: gone after day 5, back after day 12."""


def test_right_found_and_how_early() -> None:
    alerts = [raised("gone", 15), raised("back", 8, 12), raised("back", 11.6, 12)]
    found = quality(alerts, SHOP, PERIOD)
    assert found == Quality(
        raised=3,
        precision=pytest.approx(1 / 3),
        lost=2,
        recall=0.5,
        alerted=0.5,
        lead_days=10.0,
        within_a_day=pytest.approx(1 / 3),
        at_an_event=0.0,
        by_model=0.0,
    )


def test_gone_may_be_by_the_users_own_gaps() -> None:
    """Two of the user's gaps, ten days counting as one more: 14 days after days 1 and 5."""
    own = msgspec.structs.replace(
        shop_targets(PURCHASE, None, 20 * DAY)[0], gaps=2.0, floor_ms=DAY, prior_gap_ms=10 * DAY
    )
    shop = {"ann": user((1, 5, 20)), "bob": user((1, 2, 3, 60))}
    period = Period(since=0, until=100 * DAY, horizon=20 * DAY, min_orders=2, own=own)
    assert period.ahead(shop["ann"].orders, 6 * DAY) == 14 * DAY
    assert period.ahead(shop["ann"].orders, 0) == 20 * DAY
    # Bob's horizon of eight days after day 55 holds an order, Ann's of fourteen after 5.9 none.
    alerts = [raised("ann", 5.9, 20), raised("bob", 4), raised("bob", 55)]
    found = quality(alerts, shop, period)
    assert (found.raised, found.precision) == (3, pytest.approx(2 / 3))
    # Lost: Ann after days 5 and 20, Bob after days 3 and 60; those of days 5 and 3 are found.
    assert (found.lost, found.recall) == (4, 0.5)
    assert found.lead_days == pytest.approx((19 - 5.9 + 11 - 4) / 2)


def test_an_alert_closed_before_the_horizon_finds_nobody() -> None:
    found = quality([raised("gone", 15, 16)], SHOP, PERIOD)
    assert (found.recall, found.alerted) == (0.0, 0.5)


def test_what_cannot_be_known_yet_does_not_count() -> None:
    shop = SHOP | {"late": user((80, 85))}
    found = quality([raised("late", 90), raised("gone", -1)], shop, PERIOD)
    assert (found.raised, found.lost, found.precision) == (0, 2, None)


def test_alerts_at_an_event_and_by_a_model_are_told() -> None:
    found = quality([raised("gone", 5, cause="model_change")], SHOP, PERIOD)
    assert (found.at_an_event, found.within_a_day, found.by_model) == (1.0, 1.0, 1.0)


def test_the_rule_raises_once_per_order_of_users_with_enough() -> None:
    alerts = fixed_rule(SHOP, PERIOD, 3 * DAY)
    assert [(a.user, a.at // DAY, a.closed // DAY) for a in alerts if a.user == "back"] == [
        ("back", 8, 12),
        ("back", 15, Raised("", 0).closed // DAY),
    ]
    assert {a.user for a in alerts} == {"gone", "back"}


def test_the_rule_is_matched_by_its_number_of_alerts() -> None:
    rng = np.random.default_rng(1)
    shop = {str(n): user(tuple(np.sort(rng.uniform(0, 60, 8)))) for n in range(50)}
    for count in (60, 120):
        inactivity, alerts = as_many(shop, PERIOD, count)
        assert alerts == fixed_rule(shop, PERIOD, inactivity)
        number = sum(0 <= a.at < PERIOD.matured for a in alerts)
        assert count - 3 <= number <= count


def test_the_rule_is_matched_by_its_precision() -> None:
    """Half of the users pause for 10 days once, the others leave."""
    pausing = {f"back{n}": user((1 + n / 10, 5, 15, 25, 35, 45)) for n in range(40)}
    leaving = {f"gone{n}": user((1 + n / 10, 5)) for n in range(40)}
    shop = pausing | leaving
    inactivity, alerts = as_precise(shop, PERIOD, 0.9)
    assert inactivity == 10 * DAY + DAY // 2
    assert quality(alerts, shop, PERIOD).precision == 1.0
    assert as_precise(pausing, Period(0, 50 * DAY, 20 * DAY, 2), 0.9) is None


def test_lines_of_one_order_are_one_order() -> None:
    times = at(1, 1, 1.01, 2)
    assert orders_of(times, 1_800_000).tolist() == at(1, 2).tolist()
    assert orders_of(times[:0], 5).tolist() == []
