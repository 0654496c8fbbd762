"""The pure pipeline through the brokerless driver, against the oracle and against itself."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.serving.scorer import Scorer
from models.targets import Target
from schemas.codec import encode
from schemas.events import Purchase, View
from stream.config.settings import Settings
from stream.testing import PipedRecord, PipelineDriver
from tests.logs import (
    DAY,
    SPENDING,
    START,
    TARGETS,
    disordered,
    duplicated,
    gru_scorer,
    judged_by_oracle,
    raw,
    shop_log,
)
from tests.told import told

pytestmark = pytest.mark.slow

ALERT_FIELDS = ("status", "since", "raised_at", "cooldown_until", "disarmed", "due", "offset")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return gru_scorer()


def settings(**changes: dict[str, object]) -> Settings:
    sections: dict[str, dict[str, object]] = {
        "worker": {"clock": "event", "emit": "every"},
        "churn": {
            "tick_ms": 3_600_000,
            "prior_gap_ms": DAY,
            "cooldown_ms": DAY,
            "escalate_after_ms": 6 * 3_600_000,
            "raise_at": 0.3,
            "raise_untrained": True,
            "escalate_at": 0.4,
            "resolve_at": 0.1,
        },
    }
    for name, section in changes.items():
        sections[name] = {**sections.get(name, {}), **section}
    return Settings(**sections)


@pytest.mark.parametrize("seed", range(4))
def test_histories_and_totals_equal_the_oracle(scorer: Scorer, seed: int) -> None:
    log = duplicated(disordered(shop_log(seed, 1500, days=3), seed, 900_000), seed, 0.1)
    driver = PipelineDriver(scorer, settings())
    driver.pipe(log, batch=97)
    users, totals = judged_by_oracle(log, driver.settings.state)
    counters = driver.pipeline.counters
    assert counters.consumed == len(log)
    assert {name: getattr(counters, name) for name in totals} == totals
    assert totals["late"] > 0
    assert totals["duplicate"] > 0
    records = driver.records()
    assert {u: told(r) for u, r in records.items()} == {u: h.aggregates() for u, h in users.items()}
    assert len(driver.late()) == totals["late"]
    assert len(driver.predictions()) == totals["accepted"]


@pytest.mark.full
@pytest.mark.parametrize("targets", [TARGETS, SPENDING], ids=["plain", "with wait and spend"])
@pytest.mark.parametrize("batch", [1, 13, 400])
def test_results_do_not_depend_on_the_batches(targets: tuple[Target, ...], batch: int) -> None:
    scorer = gru_scorer(targets=targets)
    log = duplicated(disordered(shop_log(7, 1200), 7, 900_000), 7, 0.05)
    reference = PipelineDriver(scorer, settings())
    reference.pipe(log, batch=len(log))
    driver = PipelineDriver(scorer, settings())
    driver.pipe(log, batch=batch)
    assert driver.histories() == reference.histories()
    # Down to the bytes: repeated work may be sent twice in at-least-once mode.
    predictions = driver.settings.topics.propensity
    assert driver.outputs[predictions] == reference.outputs[predictions]
    topic = driver.settings.topics.churn
    assert sorted(driver.outputs[topic]) == sorted(reference.outputs[topic])
    assert len(reference.alerts()) > 5
    assert {a.state for a in reference.alerts()} == {"raised", "escalated", "resolved"}
    for user, record in reference.records().items():
        for name in ALERT_FIELDS:
            assert record[name] == driver.records()[user][name], (user, name)


@pytest.mark.parametrize("jitter", [1, 900_000], ids=["in order", "disordered"])
def test_alerts_come_from_inactivity_alone(scorer: Scorer, jitter: int) -> None:
    log = disordered(shop_log(7, 1200), 7, jitter)
    driver = PipelineDriver(scorer, settings())
    driver.pipe(log, batch=100)
    events = {(event.user_id, event.event_time) for event in log}
    raised: dict[str, int] = {}
    for alert in driver.alerts():
        if alert.state in {"raised", "escalated"}:
            assert alert.cause == "silence"
            assert alert.silence_ms >= 6 * 3_600_000
            assert (alert.user_id, alert.event_time) not in events
        if alert.state == "raised":
            raised[alert.episode] = alert.event_time
        elif alert.state == "resolved":
            assert alert.event_time > raised[alert.episode]
    assert len(raised) > 5


def test_latest_emits_the_same_values_as_every(scorer: Scorer) -> None:
    log = shop_log(3, 600)
    every, latest = (
        PipelineDriver(scorer, settings(worker={"clock": "event", "emit": emit}))
        for emit in ("every", "latest")
    )
    every.pipe(log, batch=50)
    latest.pipe(log, batch=50)
    known = {p.prediction_id: p for p in every.predictions()}
    assert 0 < len(latest.predictions()) < len(known)
    assert all(known[p.prediction_id] == p for p in latest.predictions())
    assert [a.alert_id for a in every.alerts()] == [a.alert_id for a in latest.alerts()]


def test_shuffling_within_the_grace_and_duplicating_ends_in_the_same_bytes(
    scorer: Scorer,
) -> None:
    log = shop_log(5, 1500, days=60)
    straight, messy = PipelineDriver(scorer, settings()), PipelineDriver(scorer, settings())
    straight.pipe(log)
    messy.pipe(duplicated(disordered(log, 5, 600_000), 5, 0.1), batch=64)
    assert messy.pipeline.counters.late == 0
    assert messy.pipeline.counters.accepted == len(log)
    assert messy.histories() == straight.histories()


def test_a_restart_at_any_commit_changes_nothing(scorer: Scorer) -> None:
    log = shop_log(11, 800)
    straight, broken = PipelineDriver(scorer, settings()), PipelineDriver(scorer, settings())
    straight.pipe(log, batch=100)
    rng = random.Random(1)
    records = raw(log)
    while (at := max(broken.pipeline.source_offset, 0)) < len(records):
        broken.pipe_raw(records[at : at + rng.randrange(1, 90)])
        broken.restart()
    assert broken.histories() == straight.histories()
    assert broken.outputs.keys() == straight.outputs.keys()
    assert [p.prediction_id for p in broken.predictions()] == [
        p.prediction_id for p in straight.predictions()
    ]
    assert {a.alert_id for a in broken.alerts()} == {a.alert_id for a in straight.alerts()}
    assert broken.pipeline.counters == straight.pipeline.counters


def test_a_new_model_in_the_middle_scores_from_the_next_event_on(scorer: Scorer) -> None:
    log = shop_log(13, 400)
    other = gru_scorer("gru-other", seed=9)
    driver = PipelineDriver(scorer, settings())
    driver.pipe(log[:200])
    driver.pipeline.replace_scorer(other)
    driver.pipe(log[200:])
    versions = [p.model_version for p in driver.predictions()]
    assert versions == [scorer.version] * 200 + [other.version] * 200

    fresh = PipelineDriver(other, settings())
    fresh.pipe(log)
    short = {u for u, r in fresh.records().items() if r["n"] <= other.history_length}
    # Up to the model's history length a rebuilt state equals one that was stepped all along.
    last = {p.user_id: p for p in fresh.predictions()}
    mine = {p.user_id: p for p in driver.predictions() if p.model_version == other.version}
    assert len(short & mine.keys()) > 5
    for user in short & mine.keys():
        a, b = mine[user].targets["churn"], last[user].targets["churn"]
        assert abs(a.probability - b.probability) <= 1e-5


def test_poison_is_dead_lettered_once_and_harms_nobody(scorer: Scorer) -> None:
    good = raw(shop_log(17, 60))
    key = b"user-1"
    bad = [
        (key, b'{"type":"view","event_id":"x"', START),
        (key, b"\xff\xfe", START),
        (key, None, START),
        (key, b"null", START),
        (key, b"[" * 100_000, START),
        (None, good[0][1], START),
        (b"someone-else", good[0][1], START),
        (key, b'{"type":"dance","event_id":"x","user_id":"user-1","event_time":1}', START),
        (key, encode(View(event_id="x", user_id="user-1", event_time=START + 99 * DAY)), START),
        (key, b"x" * (1 << 21), START),
    ]
    mixed = list(good)
    rng = random.Random(3)
    for record in bad:
        mixed.insert(rng.randrange(len(mixed)), record)
    clean = PipelineDriver(scorer, settings(worker={"clock": "wall", "emit": "every"}))
    driver = PipelineDriver(scorer, settings(worker={"clock": "wall", "emit": "every"}))
    clean.pipe_raw(good)
    driver.pipe_raw(mixed, batch=9)
    assert driver.histories() == clean.histories()
    assert sorted(letter.reason for letter in driver.dead_letters()) == sorted(
        [
            "truncated",
            "not_utf8",
            "null_value",
            "null_value",
            "too_deep",
            "key_missing",
            "key_mismatch",
            "unknown_type",
            "future",
            "too_large",
        ]
    )
    offsets = {letter.source.offset for letter in driver.dead_letters()}
    assert offsets == {i for i, record in enumerate(mixed) if record in bad}
    assert driver.pipeline.counters.invalid == len(bad)


def three_purchases() -> list[Purchase]:
    return [
        Purchase(event_id=str(i), user_id="ann", event_time=START + i * DAY, price=10.0)
        for i in range(3)
    ]


def test_silence_alone_raises_one_alert_when_it_is_due() -> None:
    driver = PipelineDriver(
        Scorer.rhythm(TARGETS),
        settings(worker={"clock": "wall"}, churn={"gap_factor": 3.0}),
    )
    driver.pipe(three_purchases())
    last = START + 2 * DAY
    due = driver.pipeline.next_due()
    assert due is not None
    assert due == last + 3 * DAY + (-(last + 3 * DAY)) % 3_600_000
    driver.advance(due - 1)
    assert driver.alerts() == []
    for now in (due, due + 1, due + 60_000, due + 3_600_000):
        driver.advance(now)
    (alert,) = driver.alerts()
    assert (alert.user_id, alert.state, alert.cause) == ("ann", "raised", "silence")
    assert alert.event_time == due
    assert alert.silence_ms == due - last
    assert alert.expected_gap_ms == DAY
    assert alert.reasons
    assert alert.value_at_risk > 0


def test_an_alert_that_came_due_while_the_worker_was_down_is_raised_once_afterwards() -> None:
    driver = PipelineDriver(
        Scorer.rhythm(TARGETS),
        settings(worker={"clock": "wall"}, churn={"gap_factor": 3.0}),
    )
    driver.pipe(three_purchases())
    due = driver.pipeline.next_due()
    assert due is not None
    driver.restart()
    driver.advance(due + 5 * 3_600_000)
    driver.restart()
    driver.advance(due + 6 * 3_600_000)
    raised = [a for a in driver.alerts() if a.state == "raised"]
    assert [a.event_time for a in raised] == [due]


def test_a_purchase_resolves_the_alert_and_arms_the_next() -> None:
    driver = PipelineDriver(
        Scorer.rhythm(TARGETS),
        settings(worker={"clock": "wall"}, churn={"gap_factor": 3.0}),
    )
    driver.pipe(three_purchases())
    driver.advance(START + 20 * DAY)
    driver.pipe([Purchase(event_id="9", user_id="ann", event_time=START + 21 * DAY, price=1.0)])
    driver.advance(START + 90 * DAY)
    states = [a.state for a in driver.alerts()]
    assert states[0] == "raised"
    assert states.count("resolved") == 1
    assert states.count("raised") == 2
    episodes = [a.episode for a in driver.alerts()]
    assert len(set(episodes)) == 2


def test_an_event_that_came_after_the_alert_but_happened_before_it_retracts_it() -> None:
    driver = PipelineDriver(
        Scorer.rhythm(TARGETS),
        settings(worker={"clock": "wall"}, churn={"gap_factor": 3.0, "escalate_after_ms": 9 * DAY}),
    )
    driver.pipe(three_purchases())
    driver.advance(START + 6 * DAY)
    (raised,) = driver.alerts()
    view = View(event_id="9", user_id="ann", event_time=raised.event_time - 1000)
    driver.pipe([view])
    retracted = driver.alerts()[-1]
    assert (retracted.state, retracted.episode) == ("retracted", raised.alert_id)
    driver.advance(START + 60 * DAY)
    assert [a.state for a in driver.alerts()][2] == "raised"


def test_a_forgotten_user_leaves_a_tombstone_and_starts_from_nothing() -> None:
    driver = PipelineDriver(
        Scorer.rhythm(TARGETS), settings(worker={"clock": "wall"}, state={"ttl_ms": 10 * DAY})
    )
    driver.pipe(three_purchases())
    driver.advance(START + 13 * DAY)
    assert driver.records() == {}
    assert driver.store.first_due() is None
    driver.pipe([View(event_id="9", user_id="ann", event_time=START + 14 * DAY)])
    assert int(driver.records()["ann"]["n"]) == 1


def test_an_expired_record_is_never_used_even_if_no_timer_fired(scorer: Scorer) -> None:
    driver = PipelineDriver(scorer, settings(state={"ttl_ms": 10 * DAY}))
    driver.pipe(three_purchases())
    driver.pipe([View(event_id="9", user_id="ann", event_time=START + 14 * DAY)])
    record = driver.records()["ann"]
    assert int(record["n"]) == 1
    assert int(record["orders"]) == 0


def test_a_replay_on_the_automatic_clock_does_not_take_users_for_long_gone(
    scorer: Scorer,
) -> None:
    log = shop_log(19, 300)
    now = START + 3000 * DAY
    driver = PipelineDriver(scorer, settings(worker={"clock": "auto"}))
    driver.pipe_raw((key, value, now) for key, value, _ in raw(log))
    driver.advance(now)
    assert len(driver.records()) == len({e.user_id for e in log})


def test_the_cache_may_be_smaller_than_the_users(scorer: Scorer) -> None:
    log = shop_log(23, 900, users=200)
    small = PipelineDriver(scorer, settings(worker={"cache_records": 4}))
    large = PipelineDriver(scorer, settings())
    small.pipe(log, batch=30)
    large.pipe(log, batch=30)
    assert small.histories() == large.histories()
    assert small.outputs == large.outputs
    hidden = {u: r["hidden"].tobytes() for u, r in small.records().items()}
    assert hidden == {u: r["hidden"].tobytes() for u, r in large.records().items()}
    assert np.isfinite([r["risk"] for r in small.records().values()]).all()


def test_timers_see_what_is_committed_but_not_yet_stored(scorer: Scorer) -> None:
    log = shop_log(29, 40 * 20)
    straight, late = PipelineDriver(scorer, settings()), PipelineDriver(scorer, settings())
    straight.pipe(log, batch=20)
    on_its_way = None
    for i, lo in enumerate(range(0, len(log), 20), start=1):
        part = enumerate(raw(log)[lo : lo + 20], lo)
        late.pipeline.process([PipedRecord(at, t, key, value) for at, (key, value, t) in part])
        if i % 2:
            on_its_way = late.pipeline.drain()
            for topic, messages in on_its_way.outputs.items():
                late.outputs.setdefault(topic, []).extend(messages)
        elif on_its_way is not None:
            late.store.apply(on_its_way.changelog, on_its_way.timers, i)
            late.pipeline.committed(on_its_way)
    late.commit()
    assert straight.alerts()
    topic = late.settings.topics.churn
    assert sorted(late.outputs[topic]) == sorted(straight.outputs[topic])
    assert late.histories() == straight.histories()


@pytest.mark.parametrize("batch", [7, 400])
def test_a_program_is_marked_and_raises_no_alert(scorer: Scorer, batch: int) -> None:
    log = [
        Purchase(event_id=str(i), user_id="bot", event_time=START + i * 60_000, price=1.0)
        for i in range(300)
    ]
    log += [
        Purchase(event_id=f"day {day}", user_id=user, event_time=START + day * DAY, price=1.0)
        for day in range(20, 110, 20)
        for user in ("ann", "bob", "eve")
    ]
    # Every purchase is an order: the session gap is shorter than the pauses.
    rules = {"session_gap_ms": 3_600_000, "bot_session_events": 100}
    alarming = {"min_orders": 1, "raise_at": 0.01, "raise_untrained": True, "resolve_at": 0.001}
    driver = PipelineDriver(scorer, settings(state=rules, churn=alarming))
    driver.pipe(log, batch)
    marks = [p.automated for p in driver.predictions() if p.user_id == "bot"]
    assert marks == [False] * 100 + [True] * 200
    assert "bot" not in {alert.user_id for alert in driver.alerts()}
    person = PipelineDriver(
        scorer, settings(state={**rules, "bot_session_events": 0}, churn=alarming)
    )
    person.pipe(log, batch)
    assert "bot" in {alert.user_id for alert in person.alerts()}
