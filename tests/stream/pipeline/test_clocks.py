"""History and live events in one partition: nobody is lost, and nobody is alerted of the past."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.events import Event, Purchase, View
from schemas.outputs import ChurnAlert
from stream.config.durations import DAY_MS, HOUR_MS, MINUTE_MS
from stream.testing import PipelineDriver
from tests.logs import START
from tests.stream.pipeline.histories import (
    ALERTING,
    NOW,
    Piped,
    at,
    history,
    passing,
    purchases,
    shop,
    untouched,
    view,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("batch", [7, 4096])
@pytest.mark.parametrize("live", ["none", "before", "after", "both", "between"])
def test_a_replay_of_old_history_harms_nobody(batch: int, live: str) -> None:
    driver, log = shop(), history()
    if live in ("before", "both"):
        log = [view("new", NOW - DAY_MS), view("new", NOW - HOUR_MS), *log]
    if live in ("after", "both"):
        log = [*log, view("later", NOW + MINUTE_MS)]
    if live == "between":
        for n in range(0, len(log), 20):
            log.insert(n, view("new", NOW + n))
    driver.pipe_raw(log, batch)
    passing(driver, NOW + MINUTE_MS, 60)
    untouched(driver)
    driver.pipe_raw([view("last", NOW + 60 * DAY_MS)])
    passing(driver, NOW + 60 * DAY_MS, 10)
    untouched(driver)


def backfill(users: int, purchases_each: int, live_before: int) -> tuple[list[Piped], list[Piped]]:
    """Each user's live views, and the five years before them, loaded afterwards."""
    live = [
        view(f"u{user}", NOW - HOUR_MS + n * MINUTE_MS)
        for n in range(live_before)
        for user in range(users)
    ]
    step = 1_800 // purchases_each
    log = purchases(users, START, range(0, step * purchases_each, step))
    return live, [at(event, NOW + i) for i, event in enumerate(log)]


@pytest.mark.parametrize("batch", [7, 4096])
@pytest.mark.parametrize(("each", "views"), [(20, 1), (150, 1), (30, 40)])
def test_history_loaded_after_live_events_counts(batch: int, each: int, views: int) -> None:
    """A shop goes live first and loads its five years then."""
    live, log = backfill(10, each, views)
    first, last = shop(), shop()
    first.pipe_raw([*log, *live], batch)
    last.pipe_raw(live, batch)
    last.restart()
    last.pipe_raw(log, batch)
    counters = last.pipeline.counters
    assert (counters.late, counters.accepted) == (0, 10 * (each + views))
    assert last.histories() == first.histories()
    assert last.alerts() == []
    # They are live users, with the rhythm that their history shows.
    assert not any(record["replayed"] for record in last.records().values())
    last.pipe_raw(log, batch)
    assert last.histories() == first.histories()
    passing(last, NOW + DAY_MS, 400)
    assert {alert.user_id for alert in last.alerts() if alert.state == "raised"} == {
        f"u{n}" for n in range(10)
    }


def test_history_before_more_live_events_than_are_held_is_late() -> None:
    """What is known of a user is bounded: a repeat could not be told from a new event."""
    live, log = backfill(2, 20, 64)
    driver = shop()
    driver.pipe_raw(live)
    before = driver.histories()
    driver.pipe_raw(log)
    counters = driver.pipeline.counters
    assert (counters.accepted, counters.late) == (128, 40)
    assert driver.histories() == before
    roomy = shop(state={"ring": 128})
    roomy.pipe_raw(live + log)
    assert roomy.pipeline.counters.late == 0


def test_loaded_history_out_of_order_is_late_as_ever() -> None:
    live, log = backfill(1, 20, 1)
    driver, alone = shop(), shop()
    shuffled = random.Random(3).sample(log, len(log))
    driver.pipe_raw(live + shuffled)
    alone.pipe_raw(shuffled)
    assert driver.pipeline.counters.late == alone.pipeline.counters.late > 0


def test_loaded_history_takes_no_alert_back() -> None:
    driver = shop()
    for event in purchases(3, NOW, range(0, 30, 3)):
        driver.pipe_raw([at(event, event.event_time)])
    passing(driver, NOW + 30 * DAY_MS, 30)
    raised = [alert.state for alert in driver.alerts()]
    assert raised.count("raised") == 3
    log = purchases(3, NOW - 300 * DAY_MS, range(0, 290, 10), "h")
    driver.pipe_raw(
        [
            at(msgspec.structs.replace(event, user_id=event.user_id.replace("h", "u")), stamp)
            for stamp, event in enumerate(log, NOW + 61 * DAY_MS)
        ]
    )
    assert driver.pipeline.counters.late == 0
    assert [alert.state for alert in driver.alerts()] == raised


def test_history_that_goes_on_in_live_events_ends_in_alerts_of_now() -> None:
    """A shop loads its history up to yesterday; half of its customers had left long before."""
    driver = shop()
    left = purchases(10, NOW - 200 * DAY_MS, range(0, 100, 7), "gone")
    stayed = purchases(10, NOW - 200 * DAY_MS, range(0, 199, 7), "here")
    log = sorted([*left, *stayed], key=lambda event: event.event_time)
    driver.pipe_raw(at(event, NOW + i) for i, event in enumerate(log))
    driver.advance(NOW + 1_000)
    assert driver.alerts() == []
    live = purchases(10, NOW, range(1, 60, 7), "here")
    for event in sorted(live, key=lambda event: event.event_time):
        driver.pipe_raw([at(event, event.event_time)])
        driver.advance(event.event_time)
        driver.restart()
    raised = [alert for alert in driver.alerts() if alert.state == "raised"]
    assert {alert.user_id for alert in raised} == {f"gone{n}" for n in range(10)}
    assert all(alert.event_time > NOW and alert.replayed is False for alert in raised)
    # Alerts of before live ones are for who wants them.
    assert all(int(r["n"]) > 0 for r in driver.records().values())


@pytest.mark.parametrize("days", [1, 3, 20])
def test_history_that_ended_days_ago_goes_on(days: int) -> None:
    driver = shop()
    driver.pipe_raw(history(NOW, NOW - (133 + days) * DAY_MS))
    driver.advance(NOW + 30 * MINUTE_MS)
    assert len(driver.records()) == 40
    passing(driver, NOW + DAY_MS, 120)
    raised = [alert for alert in driver.alerts() if alert.state == "raised"]
    assert len({alert.user_id for alert in raised}) == 40
    assert all(alert.event_time >= NOW for alert in raised)
    # Nobody comes back: after the time to live they are gone.
    driver.advance(NOW + 500 * DAY_MS)
    assert driver.records() == {}


def test_a_purchase_that_is_still_to_be_loaded_prevents_the_alert() -> None:
    """The clock is the wall's for live users, while the last month of history is being loaded."""
    driver = shop(churn={**ALERTING, "raise_in_history": True})
    log = sorted(
        purchases(5, NOW - 100 * DAY_MS, range(0, 100, 25)), key=lambda event: event.event_time
    )
    for i, event in enumerate(log):
        driver.pipe_raw([view("live", NOW + 2 * i), at(event, NOW + 2 * i + 1)])
        driver.advance(NOW + 2 * i + 1)
        assert not [a for a in driver.alerts() if a.event_time > event.event_time]


def test_an_old_dead_letter_brought_back_leaves_a_live_user_live() -> None:
    driver = shop()
    for event in purchases(1, NOW, range(0, 30, 3)):
        driver.pipe_raw([at(event, event.event_time)])
    last = NOW + 28 * DAY_MS
    old = Purchase(event_id="old", user_id="u0", event_time=NOW - 90 * DAY_MS, price=1.0)
    driver.pipe_raw([at(old, last)])
    assert int(driver.records()["u0"]["replayed"]) == 0
    passing(driver, last, 60)
    assert "raised" in {alert.state for alert in driver.alerts()}


def test_a_history_imported_again_changes_nothing() -> None:
    """The same events with other keys too: a shop that has merged its user ids."""
    driver = shop()
    for event in sorted(purchases(5, NOW, range(0, 100, 7)), key=lambda e: e.event_time):
        driver.pipe_raw([at(event, event.event_time)])
        driver.advance(event.event_time)
    now = NOW + 99 * DAY_MS
    before, alerts = driver.histories(), driver.alerts()
    again = purchases(5, NOW, range(0, 100, 7)) + purchases(5, NOW, range(0, 100, 7), "merged")
    for i, event in enumerate(sorted(again, key=lambda e: e.event_time)):
        driver.pipe_raw([at(event, now + i)])
        driver.advance(now + i)
    assert driver.alerts() == alerts
    after = driver.histories()
    assert {user: after[user] for user in before} == before
    assert len(after) == 10
    passing(driver, now, 90)
    raised = {alert.user_id for alert in driver.alerts() if alert.state == "raised"}
    assert {f"merged{n}" for n in range(5)} <= raised


def test_live_users_are_alerted_after_a_week_without_a_worker() -> None:
    driver = shop()
    for event in purchases(3, NOW, range(0, 30, 3)):
        driver.pipe_raw([at(event, event.event_time)])
        driver.advance(event.event_time)
    driver.restart()
    driver.advance(NOW + 50 * DAY_MS)
    raised = [alert for alert in driver.alerts() if alert.state == "raised"]
    assert len(raised) == 3
    assert all(alert.replayed is False for alert in raised)
    assert all(int(alert.decision_delay_ms) > DAY_MS for alert in raised)


@pytest.mark.parametrize("stamp", [-1, 0])
def test_without_timestamps_history_is_told_by_where_it_ends(stamp: int) -> None:
    driver = shop()
    driver.pipe_raw([(key, value, stamp) for key, value, _ in history()])
    passing(driver, NOW, 60)
    untouched(driver)
    live = shop()
    live.pipe_raw([(key, value, stamp) for key, value, _ in history(NOW, NOW - 134 * DAY_MS)])
    passing(live, NOW, 90)
    assert len({alert.user_id for alert in live.alerts()}) == 40


def test_alerts_of_history_are_raised_on_request_and_say_so() -> None:
    quiet, loud = shop(), shop(churn={**ALERTING, "raise_in_history": True})
    log = history() + [
        at(e, NOW + 900) for e in purchases(3, START + 140 * DAY_MS, range(0, 60, 7), "z")
    ]
    for driver in (quiet, loud):
        driver.pipe_raw(log)
    assert quiet.alerts() == []
    assert len(loud.alerts()) >= 40
    for alert in loud.alerts():
        assert alert.replayed is True
        assert alert.cold_start is True
        assert int(alert.decision_delay_ms) == NOW + 900 - alert.event_time
    assert quiet.histories() == loud.histories()


def test_alerts_before_a_trained_model_can_be_left_out() -> None:
    raised = []
    for untrained in (True, False):
        driver = shop(churn={**ALERTING, "raise_untrained": untrained})
        for event in purchases(3, NOW, range(0, 30, 3)):
            driver.pipe_raw([at(event, event.event_time)])
        passing(driver, NOW + 30 * DAY_MS, 60)
        raised.append({a.user_id for a in driver.alerts() if a.cold_start is True})
    assert raised == [{"u0", "u1", "u2"}, set()]


def test_a_reader_of_before_the_marks_still_reads_alerts() -> None:
    driver = shop()
    for event in purchases(1, NOW, range(0, 30, 3)):
        driver.pipe_raw([at(event, event.event_time)])
    passing(driver, NOW + 30 * DAY_MS, 60)
    plain = msgspec.json.decode(encode(driver.alerts()[0]))
    for name in ("replayed", "cold_start", "decision_delay_ms"):
        del plain[name]
    old = msgspec.json.decode(msgspec.json.encode(plain), type=ChurnAlert)
    assert old.replayed is msgspec.UNSET


Outcome = tuple[dict[str, bytes], list[ChurnAlert], dict[str, list[int]]]
FIELDS = ("replayed", "due", "status", "raised_at", "cooldown_until")


def outcome(driver: PipelineDriver) -> Outcome:
    records = driver.records()
    alerts = sorted(
        driver.alerts(), key=lambda alert: (alert.user_id, alert.event_time, alert.state)
    )
    states = {user: [int(record[f]) for f in FIELDS] for user, record in records.items()}
    return driver.histories(), alerts, states


def mixed(seed: int) -> list[Piped]:
    """Two old stretches, recent history, wrong clocks and live events, one after the other."""
    rng = random.Random(seed)
    log: list[tuple[Event, int]] = []
    for first, days, prefix in ((START, 90, "a"), (NOW - 120 * DAY_MS, 119, "b")):
        events = purchases(6, first, range(0, days, rng.randrange(3, 9)), prefix)
        log += [(event, NOW) for event in sorted(events, key=lambda event: event.event_time)]
    for n in range(rng.randrange(12)):
        wild = View(event_id=f"w{n}", user_id=f"w{n}", event_time=rng.randrange(START, NOW))
        log.insert(rng.randrange(len(log)), (wild, NOW))
    live = purchases(4, NOW, range(0, 20, 3), "l")
    for event in live:
        log.insert(rng.randrange(len(log)), (event, NOW))
    return [
        at(event, max(NOW + i, event.event_time) if stamp else 0)
        for i, (event, stamp) in enumerate(log)
    ]


@pytest.mark.full
@hypothesis(max_examples=10, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(st.integers(0, 10**6), st.data())
@pytest.mark.parametrize("clock", ["auto", "event"])
def test_outcomes_depend_on_neither_batches_nor_restarts(
    clock: str, seed: int, data: st.DataObject
) -> None:
    rules = {"worker": {"clock": clock}, "churn": {**ALERTING, "raise_in_history": True}}
    log = mixed(seed)
    whole, cut = shop(**rules), shop(**rules)
    whole.pipe_raw(log)
    while (done := max(cut.pipeline.source_offset, 0)) < len(log):
        size = data.draw(st.integers(1, 60))
        cut.pipe_raw(log[done : done + size], data.draw(st.integers(1, 60)))
        if data.draw(st.booleans()):
            cut.restart()
    assert outcome(cut) == outcome(whole)
    for driver in (whole, cut):
        driver.advance(NOW + 40 * DAY_MS)
    cut.restart()
    for driver in (whole, cut):
        driver.advance(NOW + 80 * DAY_MS)
    assert outcome(cut) == outcome(whole)


def test_a_closed_shop_goes_on_on_the_event_clock() -> None:
    driver = shop(worker={"clock": "event"})
    driver.pipe(purchases(20, START, range(0, 40, 2)))
    driver.pipe(purchases(10, START + 61 * DAY_MS, range(0, 20, 2)))
    gone = {alert.user_id for alert in driver.alerts() if alert.state == "raised"}
    assert {f"u{n}" for n in range(10, 20)} <= gone


def test_erasing_a_user_leaves_no_trace_in_the_clocks() -> None:
    driver = shop(worker={"clock": "event"})
    driver.pipe(purchases(1, START, range(3)))
    before = driver.store.get(b"m")
    assert before is not None
    codes = [row[5] for row in msgspec.json.decode(before)["clocks"]["replays"]]
    assert np.all(codes)
    driver.erase("u0", NOW)
    after = driver.store.get(b"m")
    assert after is not None
    assert [row[5] for row in msgspec.json.decode(after)["clocks"]["replays"]] == [0]
