"""Live calibration of a demo beside the fixed-inactivity rule, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from models.evaluation.leaver_rules import DAY, AtTimers, Times
from models.history import PURCHASE
from models.populations import EVENT, TIMER
from models.targets import CHURN, shop_targets
from stream.demo.live_error import MaturedPredictions, Past, Rule, learn, live_errors
from stream.outcomes.verdicts import Matured

BUYS, GONE = shop_targets(PURCHASE, 10 * DAY, 20 * DAY)
PAST = Past(100 * DAY, 2, 10 * DAY, AtTimers(0.5, 2.0, DAY))


def user(orders: tuple[float, ...], *visits: float) -> Times:
    def days(of: tuple[float, ...]) -> np.ndarray:
        return np.array(sorted(int(day * DAY) for day in of), np.int64)

    return Times(days((*orders, *visits)), days(orders))


def test_the_rule_is_the_share_gone_of_those_as_long_inactive_before_the_live_part() -> None:
    staying = {f"stays{n}": user(tuple(np.arange(0, 200, 4.0))) for n in range(30)}
    leaving = {f"leaves{n}": user((0.0, 4.0)) for n in range(30)}
    rules = learn(staying | leaving, GONE, PAST)
    assert set(rules) == {EVENT, TIMER}
    # Just after an event 30 users each have some events of which none, and one of which all leave.
    assert rules[EVENT].predict(np.zeros(1, np.int64))[0] == pytest.approx(0.5, abs=0.02)
    # Those who come every four days are looked at by timers before that, and by none after.
    soon, late = rules[TIMER].predict(np.array([3 * DAY, 15 * DAY]))
    assert soon < 0.7
    assert late > 0.9
    # What users did in the live part teaches nothing.
    changed = {
        name: Times(each.events[each.events < PAST.until], each.orders[each.orders < PAST.until])
        for name, each in (staying | leaving).items()
    }
    again = learn(changed, GONE, PAST)
    for population, rule in rules.items():
        np.testing.assert_array_equal(again[population].rates, rule.rates)


def matured(target: str, rows: list[tuple[str, float, float, bool, str]]) -> MaturedPredictions:
    found = MaturedPredictions()
    for name, day, said, label, population in rows:
        found.matured(Matured(name, "m", target, int(day * DAY), said, label, population))
    return found


def test_what_was_said_stands_beside_what_came_true_each_user_counting_once() -> None:
    shop = {f"u{n}": user((0.0, 5.0, 110.0)) for n in range(8)}
    rows = [(f"u{n}", 110.0, 0.25, n < 2, EVENT) for n in range(8)]
    rows += [("u0", 110.0 + day, 0.25, True, EVENT) for day in (1, 2, 3)]
    rows += [(f"u{n}", 120.0, 0.9, True, TIMER) for n in range(8)]
    found = live_errors(matured(CHURN, rows), shop, GONE, PAST)
    assert (found[EVENT]["predictions"], found[EVENT]["users"]) == (11, 8)
    assert found[EVENT]["predicted"] == found[EVENT]["observed"] == 0.25
    assert found[EVENT]["ece"] == pytest.approx(0)
    assert found[TIMER]["ece"] == pytest.approx(0.1)
    (row,) = found[TIMER]["calibration"]
    assert row == {"low": 0.9, "predictions": 8, "predicted": pytest.approx(0.9), "observed": 1.0}
    # All were gone for so long after day 5 that the rule says so, and it is right.
    assert found[TIMER]["rule_ece"] < found[TIMER]["ece"]
    assert live_errors(matured(CHURN, rows), shop, BUYS, PAST) == {}


def test_a_purchase_is_predicted_by_the_rule_too() -> None:
    shop = {f"u{n}": user(tuple(np.arange(n % 5, 200, 5.0))) for n in range(20)}
    rules = learn(shop, BUYS, PAST)
    assert rules[EVENT].predict(np.zeros(1, np.int64))[0] > 0.95


def test_own_horizons_are_the_users_own() -> None:
    own = structs.replace(GONE, gaps=1.0, floor_ms=2 * DAY, prior_gap_ms=2 * DAY)
    often = {f"u{n}": user((0.0, 2.0, 4.0, 6.0, 16.0)) for n in range(20)}
    # Ten days without an order are gone to those who come every other day, not to all.
    assert learn(often, own, PAST)[EVENT].rates.max() > learn(often, GONE, PAST)[EVENT].rates.max()


def test_a_rule_shrinks_to_the_rate_of_all() -> None:
    rule = Rule.fit(np.arange(20), np.array([0.0, 1.0] * 10), np.ones(20))
    assert ((rule.rates > 0) & (rule.rates < 1)).all()
    assert replace(rule, edges=rule.edges).predict(np.array([10**9]))[0] == rule.rates[-1]
