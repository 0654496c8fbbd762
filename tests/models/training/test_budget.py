"""A budget's threshold raises as many alerts a day as the state machine does, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.serving.thresholds import in_words
from models.training.budget import AlertRules, Evaluations, Walk, find_budget
from models.training.thresholds import Looks, thresholds_for
from stream.config.settings import ChurnSettings
from stream.pipeline.alerts import AlertFields, Evaluation, advance

DAY = 86_400_000
START = 1_700_000_000_000
Story = list[tuple[str, int, float]]
"""Of a user: what ("order", "visit", "timer"), hours since what was before, risk."""

STORIES = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["order", "visit", "timer", "timer", "timer"]),
            st.integers(1, 80),
            st.sampled_from([0.2, 0.4, 0.6, 0.8]),
        ),
        max_size=25,
    ),
    min_size=1,
    max_size=4,
)


def evaluations(stories: list[Story]) -> Evaluations:
    """The timers of users who ordered just before what they are seen to do."""
    rows = []
    for user, story in enumerate(stories):
        now, orders, ordered, since = START, 1, START, START
        for what, hours, risk in story:
            now += hours * 3_600_000
            if what == "timer":
                rows.append((user, orders, now, ordered, since, risk))
                continue
            since = now
            if what == "order":
                orders, ordered = orders + 1, now
    columns = zip(*rows, strict=True) if rows else [()] * 6
    user, orders, now, ordered, since, risk = (np.array(column) for column in columns)
    return Evaluations(
        user.astype(np.uint64),
        orders.astype(np.int64),
        now.astype(np.int64),
        ordered.astype(np.int64),
        since.astype(np.int64),
        risk.astype(np.float64),
    )


def by_the_engine(stories: list[Story], rules: ChurnSettings) -> list[int]:
    """When the alert state machine raises; an order's risk is 0, a visit's leaves alerts open."""
    raised = []
    for story in stories:
        fields, now, last = AlertFields(), START, START
        for what, hours, risk in story:
            now += hours * 3_600_000
            event = None if what == "timer" else now
            last = last if event is None else now
            at_event = 0.0 if what == "order" else 0.9
            found = Evaluation(
                now=now,
                last_time=last,
                risk=risk if event is None else at_event,
                eligible=True,
                risk_before=0.0,
                event_time=event,
                purchased=what == "order",
            )
            if advance(fields, found, rules) == "raised":
                raised.append(now)
    return raised


@pytest.mark.slow
@settings(max_examples=400, deadline=None, database=None)
@given(
    STORIES, st.sampled_from([0.3, 0.5, 0.7]), st.sampled_from([0, 20]), st.sampled_from([0, 90])
)
def test_the_walk_raises_when_the_state_machine_does(
    stories: list[Story], threshold: float, dwell: int, cooldown: int
) -> None:
    hour = 3_600_000
    # One order number is seen at one time of order only; an order without timers ends no alert of
    # another that the walk would see later.
    engine = ChurnSettings(
        raise_at=threshold,
        resolve_at=0.01,
        escalate_at=1.0,
        dwell_ms=dwell * hour,
        cooldown_ms=cooldown * hour,
    )
    said = evaluations([[("timer", 1, 0.1), *story] for story in stories])
    # The first evaluation of all is before every order but the first, whose risk is low then.
    walk = Walk.of(said, AlertRules(1, dwell_ms=dwell * hour, cooldown_ms=cooldown * hour))
    expected = by_the_engine([[("timer", 1, 0.1), *story] for story in stories], engine)
    raised = walk.alerts(threshold).tolist()
    if cooldown:
        # Where several orders follow an alert, the cool-down counts from the last of them.
        assert len(raised) <= len(expected)
    else:
        assert sorted(raised) == sorted(expected)


def shop(users: int = 400, days: int = 60, seed: int = 1) -> Evaluations:
    """Users who order every few days, evaluated daily in between; risk grows in inactivity."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        now, orders, pace = START, 1, rng.gamma(2, 6)
        while now < START + days * DAY:
            gap = int(max(rng.exponential(pace), 0.2) * DAY)
            for at in range(now + DAY, min(now + gap, START + days * DAY), DAY):
                risk = 1 - np.exp(-(at - now) / DAY / 20)
                rows.append((user, orders, at, now, now, risk))
            now, orders = now + gap, orders + 1
    user, orders, at, ordered, since, risk = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return Evaluations(
        user.astype(np.uint64), orders, at.astype(np.int64), ordered, since, risk.astype(np.float64)
    )


UNTIL = START + 60 * DAY


@pytest.mark.parametrize("per_day", [2.0, 5.0, 10.0])
@pytest.mark.parametrize("treated", [1.0, 0.9])
def test_alerts_average_the_budget(per_day: float, treated: float) -> None:
    said = shop()
    found = find_budget(said, AlertRules(per_day, treated=treated), UNTIL)
    assert found.risk is not None, found.why
    assert found.days == 28
    at = Walk.of(said, AlertRules(per_day)).alerts(found.risk)
    inside = at[(at > UNTIL - 28 * DAY) & (at <= UNTIL)]
    assert found.expected == pytest.approx(len(inside) * treated / 28)
    assert 0.8 * per_day <= found.expected <= per_day
    assert found.median is not None
    assert found.high is not None
    assert found.median <= found.high


def test_a_sample_of_users_stands_for_all() -> None:
    said = shop()
    whole = find_budget(said, AlertRules(4.0), UNTIL)
    half = find_budget(said, AlertRules(8.0), UNTIL, sampled=0.5)
    assert half.risk == whole.risk
    assert half.expected == pytest.approx(2 * (whole.expected or 0))


def test_a_budget_that_cannot_be_learnt_says_why() -> None:
    said = shop()
    small = find_budget(said, AlertRules(0.1), UNTIL)
    assert small.risk is None
    assert "make 2.8 alerts in the 28.0 days" in small.why
    large = find_budget(said, AlertRules(1e6), UNTIL)
    assert large.risk is None
    assert "no more than the budget" in large.why
    assert "lower churn.alert_budget_per_day or unset it" in large.why
    few = find_budget(said, AlertRules(3.0), UNTIL + 100 * DAY)
    assert few.risk is None
    assert "0 evaluations by timers" in few.why
    assert "lengthen recalibrate.window_ms" in few.why
    same = replace(said, risk=np.full_like(said.risk, 0.5))
    found = find_budget(same, AlertRules(1.0), UNTIL)
    assert found.risk is None
    assert "the same risk: raise churn.alert_budget_per_day" in found.why


def test_alerts_of_before_the_first_evaluation_do_not_count() -> None:
    """Who ordered before anything is known has an old alert if the first risk known is high."""
    rows = [
        (0, 2, START + DAY, START - 90 * DAY, START - 90 * DAY, 0.9),
        (0, 2, START + 9 * DAY, START - 90 * DAY, START - 90 * DAY, 0.9),
        (1, 2, START + DAY, START - 9 * DAY, START - 9 * DAY, 0.1),
        (1, 2, START + 9 * DAY, START - 9 * DAY, START - 9 * DAY, 0.9),
        (2, 2, START + 5 * DAY, START + 2 * DAY, START + 2 * DAY, 0.9),
    ]
    user, orders, now, ordered, since, risk = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    said = Evaluations(user.astype(np.uint64), orders, now, ordered, since, risk)
    raised = Walk.of(said, AlertRules(1)).alerts(0.5)
    assert sorted(raised) == [START + 5 * DAY, START + 9 * DAY]
    none = Evaluations(*(column[:0] for column in (said.user, orders, now, ordered, since, risk)))
    assert not len(Walk.of(none, AlertRules(1)).alerts(0.5))


def looks_of(said: Evaluations) -> Looks:
    """Longer inactivity is right more often."""
    rng = np.random.default_rng(0)
    gone = (rng.random(len(said.now)) < said.risk).astype(np.float64)
    every = np.ones(len(said.now), np.bool_)
    return Looks(said.user, said.orders, said.now, said.risk, gone, every)


@pytest.mark.slow
@pytest.mark.parametrize(("per_day", "bound"), [(1.0, "budget"), (30.0, "precision")])
def test_of_precision_and_budget_the_stricter_one_holds(per_day: float, bound: str) -> None:
    said = shop()
    rules = AlertRules(per_day)
    found = thresholds_for(looks_of(said), said, 0.5, rules, UNTIL)
    alone = find_budget(said, rules, UNTIL)
    assert found.bound == bound
    assert found.budget is not None
    assert found.threshold == max(filter(None, (found.risk, alone.risk)))
    assert found.budget.expected is not None
    assert found.budget.expected <= per_day
    words = in_words(found)
    assert f"by the {bound}" in words
    assert f"{per_day:g} a day in the treatment arm" in words
