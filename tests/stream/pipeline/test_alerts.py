"""The churn alert state machine, transition by transition."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.settings import ChurnSettings
from stream.pipeline.alerts import (
    AlertFields,
    Cause,
    Evaluation,
    Pace,
    Status,
    Transition,
    advance,
    cause_of,
    next_evaluation,
)

RULES = ChurnSettings(
    raise_at=0.7,
    resolve_at=0.4,
    escalate_at=0.9,
    dwell_ms=0,
    cooldown_ms=100,
    escalate_after_ms=50,
    gap_factor=2,
    recheck_factor=1.5,
    min_gap_ms=10,
    tick_ms=5,
)


def rules(**changes: Any) -> ChurnSettings:
    return RULES.model_copy(update=changes)


class User:
    """A user of one model, evaluated by timers and at events."""

    def __init__(self, settings: ChurnSettings = RULES) -> None:
        self.rules = settings
        self.fields = AlertFields()
        self.last_time = 0
        self.risk = 0.0
        self.cause: Cause | None = None

    def timer(self, now: int, risk: float, **of: Any) -> Transition | None:
        return self._evaluate(now=now, risk=risk, **of)

    def event(self, at: int, risk: float, **of: Any) -> Transition | None:
        self.last_time = max(self.last_time, at)
        return self._evaluate(now=self.last_time, risk=risk, event_time=at, **of)

    def _evaluate(self, **of: Any) -> Transition | None:
        asked: dict[str, Any] = {"last_time": self.last_time, "eligible": True} | of
        found = Evaluation(risk_before=self.risk, **asked)
        transition = advance(self.fields, found, self.rules)
        self.risk = found.risk
        if transition is not None:
            self.cause = cause_of(transition, self.fields, found, self.rules)
        return transition


def raised(settings: ChurnSettings = RULES, at: int = 100) -> User:
    user = User(settings)
    assert user.timer(at, 0.8) == "raised"
    return user


class TestGivenBack:
    """A user who is no longer eligible: everything was given back, or it is a program."""

    def test_a_refund_resolves_however_high_the_risk(self) -> None:
        user = raised()
        assert user.event(120, 0.99, eligible=False) == "resolved"
        assert user.cause == "behaviour"
        assert user.fields.disarmed

    def test_an_escalated_alert_ends_too(self) -> None:
        user = raised()
        assert user.timer(200, 0.95) == "escalated"
        assert user.event(210, 0.95, eligible=False) == "resolved"

    def test_a_new_model_is_not_told_as_the_cause(self) -> None:
        user = raised()
        assert user.event(120, 0.1, eligible=False, new_model=True) == "resolved"
        assert user.cause == "behaviour"

    def test_a_refund_of_before_the_alert_retracts_it(self) -> None:
        user = raised()
        user.last_time = 90
        assert user.event(80, 0.99, eligible=False) == "retracted"

    def test_a_timer_resolves_and_never_raises_or_escalates(self) -> None:
        user = raised()
        assert user.timer(200, 0.99, eligible=False) == "resolved"
        assert user.timer(900, 0.99, eligible=False) is None


class TestEvents:
    @pytest.mark.parametrize("purchased", [False, True])
    def test_no_event_raises_whatever_the_risk(self, *, purchased: bool) -> None:
        user = User()
        for at in (1, 2, 2, 500):
            assert user.event(at, 0.99, purchased=purchased) is None
            assert user.fields.status is Status.CALM

    def test_the_timer_after_a_risky_event_raises(self) -> None:
        user = User()
        user.event(10, 0.8)
        assert user.timer(30, 0.8) == "raised"
        assert user.cause == "silence"

    def test_nothing_is_raised_at_inactivity_0(self) -> None:
        user = User()
        user.event(10, 0.8)
        assert user.timer(10, 0.9) is None
        assert user.timer(11, 0.9) == "raised"

    def test_an_event_ends_the_dwell(self) -> None:
        user = User(rules(dwell_ms=10))
        user.timer(5, 0.8)
        assert user.event(6, 0.99) is None
        assert user.fields.status is Status.CALM
        assert user.timer(15, 0.8) is None
        assert user.timer(25, 0.8) == "raised"

    def test_no_event_escalates(self) -> None:
        user = raised()
        assert user.event(170, 0.95) is None
        assert user.fields.status is Status.RAISED

    def test_a_risk_that_falls_with_an_event_resolves(self) -> None:
        user = raised()
        assert user.event(101, 0.8) is None
        assert user.event(102, 0.3) == "resolved"
        assert user.cause == "behaviour"


class TestEventsThatCameLate:
    @pytest.mark.parametrize("at", [90, 100])
    def test_the_user_was_there_so_the_alert_is_retracted(self, at: int) -> None:
        user = raised()
        assert user.event(at, 0.1) == "retracted"
        assert (user.cause, user.fields.status) == ("behaviour", Status.CALM)
        assert (user.fields.cooldown_until, user.fields.disarmed) == (200, False)
        assert user.timer(199, 0.8) is None
        assert user.timer(200, 0.8) == "raised"

    def test_one_older_than_the_latest_leaves_the_alert(self) -> None:
        user = User()
        user.event(50, 0.5)
        assert user.timer(100, 0.8) == "raised"
        assert user.event(45, 0.1) is None
        assert user.fields.status is Status.RAISED

    def test_a_purchase_older_than_the_latest_retracts(self) -> None:
        user = User()
        user.event(50, 0.5)
        user.timer(100, 0.8)
        assert user.event(45, 0.1, purchased=True) == "retracted"

    def test_the_moment_of_a_retracted_alert_stays_decided(self) -> None:
        user = raised(rules(cooldown_ms=0))
        user.event(90, 0.8)
        for now in (95, 100):
            assert user.timer(now, 0.9) is None
        assert user.timer(101, 0.9) == "raised"
        assert user.fields.raised_at == 101


class TestTimers:
    def test_a_risk_above_the_threshold_raises_once(self) -> None:
        user = User()
        assert user.timer(1, 0.69) is None
        assert user.timer(2, 0.7) == "raised"
        assert user.timer(3, 0.8) is None
        assert (user.fields.status, user.fields.raised_at) == (Status.RAISED, 2)

    def test_between_the_thresholds_nothing_flips(self) -> None:
        user = raised()
        assert [user.timer(t, 0.5) for t in range(102, 106)] == [None] * 4
        assert user.fields.status is Status.RAISED

    def test_the_risk_must_stay_for_the_dwell(self) -> None:
        user = User(rules(dwell_ms=10))
        assert user.timer(1, 0.8) is None
        assert user.fields.status is Status.PENDING
        assert user.timer(5, 0.5) is None
        assert user.fields.status is Status.CALM
        assert user.timer(6, 0.8) is None
        assert user.timer(15, 0.8) is None
        assert user.timer(16, 0.8) == "raised"

    def test_escalation_needs_time_and_risk(self) -> None:
        user = raised()
        assert user.timer(140, 0.95) is None
        assert user.timer(150, 0.85) is None
        assert user.timer(151, 0.9) == "escalated"
        assert user.timer(160, 0.99) is None

    def test_escalation_counts_from_the_last_event(self) -> None:
        user = raised()
        user.event(130, 0.8)
        assert user.timer(150, 0.95) is None
        assert user.timer(180, 0.95) == "escalated"

    def test_a_purchase_resolves_and_arms_after_the_cooldown(self) -> None:
        user = raised()
        assert user.event(110, 0.99, purchased=True) == "resolved"
        assert user.timer(209, 0.9) is None
        assert user.timer(210, 0.9) == "raised"

    def test_what_ended_without_a_purchase_does_not_come_back(self) -> None:
        user = raised()
        assert user.event(110, 0.3) == "resolved"
        assert user.timer(500, 0.99) is None
        pace = Pace(110, 50, eligible=True)
        assert next_evaluation(user.fields, pace, RULES, 500) is None
        assert user.event(600, 0.99, purchased=True) is None
        assert user.timer(700, 0.99) == "raised"

    def test_a_user_with_too_few_orders_raises_nothing(self) -> None:
        user = User()
        assert user.timer(1, 0.99, eligible=False) is None
        assert next_evaluation(user.fields, Pace(0, 50, eligible=False), RULES, 0) is None


class TestAnotherModel:
    def test_alone_it_raises_nothing_for_ever(self) -> None:
        user = User()
        user.timer(10, 0.5)
        assert user.timer(20, 0.8, new_model=True) is None
        assert [user.timer(now, 0.8) for now in range(30, 90)] == [None] * 60

    def test_then_inactivity_raises(self) -> None:
        user = User()
        user.timer(10, 0.5)
        assert user.timer(20, 0.8, new_model=True) is None
        assert user.timer(30, 0.81) == "raised"
        assert user.cause == "silence"

    def test_what_the_old_model_found_too_is_raised_at_once(self) -> None:
        user = User(rules(dwell_ms=10))
        user.event(10, 0.75)
        user.timer(20, 0.8, new_model=True)
        assert user.timer(30, 0.8, new_model=True) == "raised"
        assert user.cause == "silence"

    def test_a_new_model_at_every_timer_withholds_no_alert(self) -> None:
        user = User()
        risks = (0.5, 0.72, 0.71, 0.74)
        found = [user.timer(10 * (n + 1), risk, new_model=True) for n, risk in enumerate(risks)]
        assert found == [None, None, None, "raised"]

    def test_an_event_begins_again(self) -> None:
        user = User()
        user.timer(10, 0.5)
        user.timer(20, 0.8, new_model=True)
        user.event(25, 0.3)
        assert user.timer(40, 0.8) == "raised"

    def test_a_setting_lets_it_raise(self) -> None:
        user = User(rules(raise_on_model_change=True))
        user.timer(10, 0.5)
        assert user.timer(20, 0.8, new_model=True) == "raised"
        assert user.cause == "model_change"

    def test_alone_it_does_not_escalate_but_the_next_timer_may(self) -> None:
        user = raised()
        assert user.timer(151, 0.95, new_model=True) is None
        assert user.timer(160, 0.95) == "escalated"
        assert user.cause == "silence"

    def test_a_setting_lets_it_escalate(self) -> None:
        user = raised(rules(raise_on_model_change=True))
        assert user.timer(151, 0.95, new_model=True) == "escalated"
        assert user.cause == "model_change"

    def test_it_may_resolve(self) -> None:
        user = raised()
        assert user.timer(110, 0.1, new_model=True) == "resolved"
        assert user.cause == "model_change"

    def test_a_purchase_resolves_whatever_the_model(self) -> None:
        user = raised()
        assert user.event(110, 0.1, new_model=True, purchased=True) == "resolved"
        assert user.cause == "behaviour"


class TestNextEvaluation:
    def test_it_follows_the_users_own_gap(self) -> None:
        calm = AlertFields()
        assert next_evaluation(calm, Pace(0, 50, eligible=True), RULES, 0) == 100
        assert next_evaluation(calm, Pace(0, 20, eligible=True), RULES, 0) == 40
        assert next_evaluation(calm, Pace(0, 1, eligible=True), RULES, 0) == 10
        assert next_evaluation(calm, Pace(0, 50, eligible=True), RULES, 100) == 150

    def test_an_open_alert_is_evaluated_when_it_may_escalate(self) -> None:
        fields = AlertFields(Status.RAISED, since=100, raised_at=100)
        assert next_evaluation(fields, Pace(0, 50, eligible=True), RULES, 101) == 150
        assert next_evaluation(fields, Pace(120, 50, eligible=True), RULES, 120) == 170
        fields = AlertFields(Status.ESCALATED, since=100, raised_at=100)
        assert next_evaluation(fields, Pace(0, 50, eligible=True), RULES, 101) is None

    def test_a_pending_one_after_the_dwell_or_as_inactivity_grows(self) -> None:
        fields = AlertFields(Status.PENDING, since=100)
        pace = Pace(0, 50, eligible=True)
        assert next_evaluation(fields, pace, rules(dwell_ms=20), 100) == 120
        assert next_evaluation(fields, pace, RULES, 100) == 150


step = st.tuples(
    st.integers(1, 60),
    st.sampled_from([0.3, 0.6, 0.8, 0.95]),
    st.booleans(),
    st.sampled_from(["timer", "timer", "event", "purchase"]),
)


@pytest.mark.slow
@given(st.lists(step, max_size=40))
def test_announcements_come_in_a_sensible_order(steps: list[Any]) -> None:
    user, now, said, last_end = User(), 0, [], None
    for wait, risk, new_model, kind in steps:
        now += wait
        evaluate = user.timer if kind == "timer" else user.event
        transition = evaluate(now, risk, new_model=new_model, purchased=kind == "purchase")
        if transition in {"raised", "escalated"}:
            assert kind == "timer"
            assert now > user.last_time
            assert user.cause == "silence"
        if transition == "raised":
            assert last_end is None or now - last_end >= RULES.cooldown_ms
        if transition == "resolved":
            last_end = now
            assert now > user.fields.raised_at
        said += [transition] if transition else []
        pace = Pace(user.last_time, 30, eligible=True)
        due = next_evaluation(user.fields, pace, RULES, now)
        assert due is None or (due > now and due % RULES.tick_ms == 0)
    follows: dict[str | None, set[str]] = {
        None: {"raised"},
        "raised": {"escalated", "resolved"},
        "escalated": {"resolved"},
        "resolved": {"raised"},
    }
    for before, transition in zip([None, *said], said, strict=False):
        assert transition in follows[before]


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.sampled_from([0.3, 0.6, 0.8, 0.95]), st.booleans()),
        max_size=40,
    )
)
def test_no_two_messages_have_one_id(steps: list[tuple[int, float, bool]]) -> None:
    """Evaluations in any order, as events that came late make them."""
    user, said = User(rules(cooldown_ms=0, escalate_after_ms=5)), []
    for at, risk, is_event in steps:
        user.fields.disarmed = False
        transition = (user.event if is_event else user.timer)(at, risk)
        said += [(user.fields.raised_at, transition)] if transition else []
    assert len(said) == len(set(said))
