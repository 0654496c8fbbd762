"""Rules that find leavers, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.leaver_curves import best, curve, tally, to_json
from models.evaluation.leaver_rules import (
    DAY,
    FEATURES,
    NONE,
    AtTimers,
    Own,
    Times,
    ask,
    column,
    inactive_for,
    logistic,
)

UNTIL = 200 * DAY
OWN = Own(factor=2, floor=3 * DAY, prior_gap=10 * DAY)


def user(*days: float) -> Times:
    orders = np.array([int(day * DAY) for day in days], np.int64)
    return Times(orders, orders)


def test_gap_is_shrunk_to_the_prior() -> None:
    assert OWN.gap(user(5).orders) == 10 * DAY
    assert OWN.gap(user(0, 4).orders) == 7 * DAY


def test_horizon_is_the_users_own_and_at_least_the_floor() -> None:
    asked = ask({"a": user(0, 4), "b": user(*np.arange(0, 20, 0.5))}, OWN, 2, UNTIL)
    assert asked.horizon[0] == 14 * DAY
    assert asked.horizon[-1] == OWN.floor
    assert asked.following[0] == NONE


def test_questions_end_with_the_next_order() -> None:
    asked = ask({"a": user(0, 4, 9)}, OWN, 2, UNTIL)
    first = asked.at[asked.order == 0]
    assert first.min() == 4.5 * DAY
    assert first.max() < 9 * DAY
    assert not asked.gone[asked.order == 0].any()
    assert asked.gone[asked.order == 1].all()


def test_timers_ask_ever_more_rarely_and_anew_after_each_event() -> None:
    visits = np.array([0, 10, 12], np.int64) * DAY
    shop = {"a": Times(visits, visits[:2])}
    timers = AtTimers(gap_factor=0.5, recheck_factor=2.0, min_gap=DAY)
    asked = ask(shop, Own(0, 42 * DAY, 10 * DAY), 2, 60 * DAY, timers)
    # The expected gap is 10 days: 5 days after a visit, and when that has doubled again and again.
    assert (asked.at / DAY).tolist() == [17, 22, 32, 52]
    assert ask(shop, Own(0, 42 * DAY, 10 * DAY), 1, 60 * DAY, timers, since=DAY).last[0] == 10 * DAY


def test_users_drawn_twice_count_twice() -> None:
    shop = {"gone": user(0, 4), "back": user(0, 4, 12)}
    asked = ask(shop, OWN, 2, UNTIL)
    counted = tally(asked, column(asked, "since_order"), 0, UNTIL)
    each, twice = np.array([[1.0, 1.0]]), np.array([[2.0, 1.0]])
    # At the lowest threshold "gone" is alerted once, rightly, and "back" twice, once rightly.
    assert counted.precision(each)[0, 0] == 2 / 3
    assert counted.precision(twice)[0, 0] == 3 / 4
    assert counted.recall_at(0.7, each)[0] == counted.recall_at(0.7, twice)[0] == 1.0
    assert np.isnan(counted.recall_at(1.1, each)[0])


def test_thresholds_are_fine_where_few_questions_decide_who_is_alerted() -> None:
    """Of a hundred who are asked often one each has the highest score of its own."""
    shop = {str(n): user(0, 4 + n / 1000) for n in range(100)}
    asked = ask(shop, OWN, 2, UNTIL)
    scores = np.zeros(len(asked.at))
    _, last = np.unique(asked.order[::-1], return_index=True)
    scores[len(scores) - 1 - last] = 1 + np.arange(100)
    raised = sorted({round(each) for each in tally(asked, scores, 0, UNTIL).raised_UT.sum(axis=0)})
    assert len(raised) > 50
    assert max(np.diff(raised)) <= 4


def test_rule_alerts_once_an_order_at_its_threshold() -> None:
    shop = {"gone": user(0, 4), "back": user(0, 4, 12)}
    asked = ask(shop, OWN, 2, UNTIL)
    found = curve(asked, column(asked, "since_order"), 0, UNTIL)
    # Both are asked after day 4: until day 12 one alert of two is right, later the only one is.
    soon, late = best(found, 0.0), best(found, 0.9)
    assert soon is not None
    assert late is not None
    # Orders on day 4 of "gone" and on day 12 of "back" are lost; the one in between is not.
    assert (soon.raised, soon.recall) == (3, 1.0)
    assert round(soon.precision, 3) == 0.667
    assert (late.raised, late.precision, late.recall) == (2, 1.0, 1.0)
    assert late.lead_days < 14 - 8 + 1
    assert best(found, 1.1) is None
    assert to_json(None) is None


@pytest.mark.slow
def test_logistic_learns_from_the_users_own_gap_and_from_no_later_outcome() -> None:
    rng = np.random.default_rng(1)
    shop = {}
    for number in range(120):
        gap, stays = rng.choice([2.0, 12.0]), rng.uniform(20, 160)
        times = np.cumsum(gap * rng.uniform(0.7, 1.3, 100)) + rng.uniform(0, 10)
        shop[str(number)] = user(*times[times < stays])
    asked, until = ask(shop, OWN, 2, UNTIL), 90 * DAY
    scores = logistic(asked, until)
    assert asked.features.shape[1] == len(FEATURES)
    late = asked.at > until
    assert scores[late & asked.gone].mean() > scores[late & ~asked.gone].mean() + 0.2
    cut = {
        name: Times(each.events[each.events < until], each.orders[each.orders < until])
        for name, each in shop.items()
    }
    earlier = ask(cut, OWN, 2, until)
    known = earlier.at + earlier.horizon[earlier.order] <= until
    same = asked.at + asked.horizon[asked.order] <= until
    np.testing.assert_allclose(logistic(earlier, until)[known], scores[same], rtol=1e-6)


def test_a_user_without_an_event_was_never_active() -> None:
    at = np.array([5, 20, 30])
    assert inactive_for(np.array([10, 25]), at).tolist() == [NONE, 10, 5]
    assert inactive_for(np.zeros(0, np.int64), at).tolist() == [NONE] * 3
