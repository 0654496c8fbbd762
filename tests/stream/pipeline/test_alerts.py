"""The churn alert state machine, transition by transition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.config.settings import ChurnSettings
from stream.pipeline.alerts import AlertFields, Look, Rhythm, Status, advance, next_look

RULES = ChurnSettings(
    raise_at=0.7,
    resolve_at=0.4,
    escalate_at=0.9,
    dwell_ms=0,
    cooldown_ms=100,
    escalate_after_ms=50,
    gap_factor=2,
    min_gap_ms=10,
    tick_ms=5,
)


def look(now: int, risk: float, *, eligible: bool = True, purchased: bool = False) -> Look:
    return Look(now, risk, eligible, purchased, event_time=now)


def test_an_event_from_before_a_silence_alert_retracts_it() -> None:
    fields = AlertFields()
    assert advance(fields, Look(100, 0.8, eligible=True), RULES) == "raised"
    seen = Look(90, 0.8, eligible=True, event_time=90)
    assert advance(fields, seen, RULES) == "retracted"
    assert (fields.status, fields.cooldown_until, fields.disarmed) == (Status.CALM, 0, False)
    assert advance(fields, Look(150, 0.8, eligible=True), RULES) == "raised"


def test_what_was_retracted_is_not_raised_for_the_same_moment_or_one_before_it() -> None:
    fields = AlertFields()
    advance(fields, Look(100, 0.8, eligible=True), RULES)
    advance(fields, Look(90, 0.8, eligible=True, event_time=90), RULES)
    for now in (90, 95, 100):
        assert advance(fields, look(now, 0.9), RULES) is None
    assert advance(fields, look(101, 0.9), RULES) == "raised"
    assert fields.raised_at == 101


def test_an_event_after_a_silence_alert_does_not_retract_it() -> None:
    fields = AlertFields()
    advance(fields, Look(100, 0.8, eligible=True), RULES)
    assert advance(fields, Look(101, 0.8, eligible=True, event_time=101), RULES) is None
    assert advance(fields, look(102, 0.3), RULES) == "resolved"


def test_a_late_event_retracts_a_behaviour_alert_only_if_the_risk_falls() -> None:
    fields = AlertFields()
    advance(fields, look(100, 0.8), RULES)
    assert advance(fields, Look(100, 0.75, eligible=True, event_time=60), RULES) is None
    assert advance(fields, Look(100, 0.6, eligible=True, event_time=70), RULES) == "retracted"


def test_a_risk_above_the_threshold_raises_once() -> None:
    fields = AlertFields()
    assert advance(fields, look(1, 0.69), RULES) is None
    assert advance(fields, look(2, 0.7), RULES) == "raised"
    assert advance(fields, look(3, 0.8), RULES) is None
    assert (fields.status, fields.raised_at) == (Status.RAISED, 2)


def test_between_the_thresholds_nothing_flips() -> None:
    fields = AlertFields()
    advance(fields, look(1, 0.8), RULES)
    assert [advance(fields, look(t, 0.5), RULES) for t in range(2, 6)] == [None] * 4
    assert fields.status is Status.RAISED


def test_the_risk_must_stay_for_the_dwell() -> None:
    rules = RULES.model_copy(update={"dwell_ms": 10})
    fields = AlertFields()
    assert advance(fields, look(0, 0.8), rules) is None
    assert fields.status is Status.PENDING
    assert advance(fields, look(5, 0.5), rules) is None
    assert fields.status is Status.CALM
    assert advance(fields, look(6, 0.8), rules) is None
    assert advance(fields, look(15, 0.8), rules) is None
    assert advance(fields, look(16, 0.8), rules) == "raised"


def test_escalation_needs_time_and_risk() -> None:
    fields = AlertFields()
    advance(fields, look(0, 0.8), RULES)
    assert advance(fields, look(40, 0.95), RULES) is None
    assert advance(fields, look(50, 0.85), RULES) is None
    assert advance(fields, look(51, 0.9), RULES) == "escalated"
    assert advance(fields, look(60, 0.99), RULES) is None


def test_a_purchase_resolves_and_arms_again_after_the_cooldown() -> None:
    fields = AlertFields()
    advance(fields, look(0, 0.8), RULES)
    assert advance(fields, look(10, 0.99, purchased=True), RULES) == "resolved"
    assert advance(fields, look(109, 0.9), RULES) is None
    assert advance(fields, look(110, 0.9), RULES) == "raised"


def test_without_a_purchase_a_resolved_alert_does_not_come_back() -> None:
    fields = AlertFields()
    advance(fields, look(0, 0.8), RULES)
    assert advance(fields, look(10, 0.3), RULES) == "resolved"
    assert advance(fields, look(500, 0.99), RULES) is None
    assert next_look(fields, Rhythm(10, 50, eligible=True), RULES, 500) is None
    assert advance(fields, look(600, 0.99, purchased=True), RULES) is None
    assert advance(fields, look(700, 0.99), RULES) == "raised"


def test_a_user_without_a_rhythm_raises_nothing() -> None:
    fields = AlertFields()
    assert advance(fields, look(0, 0.99, eligible=False), RULES) is None
    assert next_look(fields, Rhythm(0, 50, eligible=False), RULES, 0) is None


def test_the_next_look_follows_the_users_own_rhythm() -> None:
    calm = AlertFields()
    assert next_look(calm, Rhythm(0, 50, eligible=True), RULES, 0) == 100
    assert next_look(calm, Rhythm(0, 20, eligible=True), RULES, 0) == 40
    assert next_look(calm, Rhythm(0, 1, eligible=True), RULES, 0) == 10
    assert next_look(calm, Rhythm(0, 50, eligible=True), RULES, 100) == 150
    raised = AlertFields(Status.RAISED, since=100, raised_at=100)
    assert next_look(raised, Rhythm(0, 50, eligible=True), RULES, 101) == 150
    escalated = AlertFields(Status.ESCALATED, since=100, raised_at=100)
    assert next_look(escalated, Rhythm(0, 50, eligible=True), RULES, 101) is None


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.floats(0, 1), st.booleans(), st.booleans()), max_size=40
    )
)
def test_any_history_of_looks_announces_in_a_sensible_order(
    looks: list[tuple[int, float, bool, bool]],
) -> None:
    fields, now, said = AlertFields(), 0, []
    last_end = None
    for step, risk, eligible, purchased in looks:
        now += step
        transition = advance(fields, Look(now, risk, eligible, purchased), RULES)
        if transition == "raised":
            assert last_end is None or now - last_end >= RULES.cooldown_ms
        if transition == "resolved":
            last_end = now
        said += [transition] if transition else []
        due = next_look(fields, Rhythm(now, 30, eligible), RULES, now)
        assert due is None or (due > now and due % RULES.tick_ms == 0)
    before = None
    for transition in said:
        assert (
            transition
            in {
                None: {"raised"},
                "raised": {"escalated", "resolved"},
                "escalated": {"resolved"},
                "resolved": {"raised"},
            }[before]
        )
        before = transition


@given(
    st.lists(
        st.tuples(
            st.integers(1, 60),
            st.sampled_from([0.3, 0.6, 0.8, 0.95]),
            st.none() | st.integers(1, 60),
        ),
        max_size=40,
    )
)
def test_no_two_messages_are_about_the_same_state_of_the_same_alert(
    looks: list[tuple[int, float, int | None]],
) -> None:
    """Looks in any order, as events that came late make them; what they say has ids of its own."""
    fields, said = AlertFields(), []
    rules = RULES.model_copy(update={"cooldown_ms": 0, "escalate_after_ms": 5})
    for now, risk, event_time in looks:
        fields.disarmed = False
        transition = advance(fields, Look(now, risk, eligible=True, event_time=event_time), rules)
        said += [(fields.raised_at, transition)] if transition else []
    assert len(said) == len(set(said))
