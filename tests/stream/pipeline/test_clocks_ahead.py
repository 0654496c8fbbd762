"""Clocks that run ahead: no right event is late, no user is alerted, whichever clock is used."""

from __future__ import annotations

import itertools

import pytest

from schemas.events import Event, View
from stream.config.durations import DAY_MS, HOUR_MS, MINUTE_MS
from tests.logs import START
from tests.stream.pipeline.histories import (
    NOW,
    at,
    purchases,
    shop,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ahead", [365 * DAY_MS, 40_000 * DAY_MS // 2, 20 * DAY_MS, 10 * HOUR_MS])
@pytest.mark.parametrize(("views", "batch"), [(1, 4096), (30, 50)])
def test_a_wrong_clock_moves_nobody_on_the_event_clock(ahead: int, views: int, batch: int) -> None:
    right, wrong = (shop(worker={"clock": "event"}) for _ in range(2))
    log = purchases(100, START, range(0, 60, 5))
    at_time = START + 56 * DAY_MS
    odd: list[Event] = [
        View(event_id=f"odd{n}", user_id="odd", event_time=at_time + ahead + n)
        for n in range(views)
    ]
    right.pipe(log)
    wrong.pipe([*log, *odd], batch)
    more = purchases(100, START, range(60, 70, 5))
    for driver in (right, wrong):
        driver.restart()
        driver.pipe(more, batch)
    histories = wrong.histories()
    del histories["odd"]
    assert histories == right.histories()
    assert {a.alert_id for a in wrong.alerts()} == {a.alert_id for a in right.alerts()}
    assert wrong.pipeline.counters.late == 0


@pytest.mark.parametrize("ahead", [HOUR_MS, 10 * HOUR_MS, 2 * DAY_MS, 20 * DAY_MS, 365 * DAY_MS])
@pytest.mark.parametrize(("wrong", "batch"), [(1, 4096), (10, 7)])
@pytest.mark.parametrize("clock", ["event", "auto"])
def test_events_ahead_make_no_right_events_late(
    ahead: int, wrong: int, batch: int, clock: str
) -> None:
    """50 right events of a user, of whom one device is ahead, in a shop of 30."""
    driver = shop(worker={"clock": clock})
    log: list[Event] = []
    for n in range(50):
        for user in range(30):
            time = START + n * 5 * MINUTE_MS + user * 9_000
            log.append(View(event_id=f"u{user}-{n}", user_id=f"u{user}", event_time=time))
        if n % 5 == 1 and n < 5 * wrong:
            time = START + n * 5 * MINUTE_MS + ahead
            log.append(View(event_id=f"odd-{n}", user_id="u7", event_time=time))
    stamps = {"event": None, "auto": NOW}[clock]
    driver.pipe_raw([at(event, stamps or event.event_time) for event in log], batch)
    counters = driver.pipeline.counters
    assert (counters.late, counters.accepted) == (0, len(log))
    driver.restart()
    record = driver.records()["u7"]
    assert int(record["n"]) == 50 + wrong
    late = View(event_id="late", user_id="u7", event_time=START + 150 * MINUTE_MS)
    driver.pipe_raw([at(late, stamps or late.event_time)])
    assert driver.pipeline.counters.late == 1


def test_two_devices_ahead_raise_nothing_on_the_event_clock() -> None:
    """Their events come one after the other, with none of anybody else in between."""
    right, wrong = (shop(worker={"clock": "event"}) for _ in range(2))
    log = purchases(80, START, range(0, 60, 5))
    odd: list[Event] = [
        View(
            event_id=f"odd{n}",
            user_id=f"odd{n % 2}",
            event_time=START + 76 * DAY_MS + n * MINUTE_MS,
        )
        for n in range(40)
    ]
    for driver, events in ((right, log), (wrong, [*log, *odd])):
        driver.pipe(events)
        driver.pipe(purchases(80, START, range(60, 70, 5)))
    assert {a.alert_id for a in wrong.alerts()} == {a.alert_id for a in right.alerts()}


def test_devices_that_are_ahead_for_good_make_no_flood() -> None:
    """Three devices, two days ahead: the clock follows them, so others look inactive too early."""
    driver = shop(worker={"clock": "event"})
    log: list[Event] = []
    for event in sorted(purchases(40, START, range(0, 200, 4)), key=lambda e: e.event_time):
        log.append(event)
        if len(log) % 7 == 0:
            log += [
                View(
                    event_id=f"{device}-{len(log)}",
                    user_id=f"device{device}",
                    event_time=event.event_time + 2 * DAY_MS + device,
                )
                for device in range(3)
            ]
    driver.pipe(log)
    cooldown = driver.settings.churn.cooldown_ms
    raised: dict[str, list[int]] = {}
    for alert in driver.alerts():
        if alert.state == "raised":
            raised.setdefault(alert.user_id, []).append(alert.event_time)
    for times in raised.values():
        assert all(b - a >= cooldown for a, b in itertools.pairwise(times))
