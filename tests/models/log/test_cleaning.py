"""What cannot be is left out and counted; what was cancelled decides nothing."""

from __future__ import annotations

import numpy as np
import pytest

from models.log.cleaning import AMOUNT_LIMIT, Cleaning, clean, possible
from models.log.eventlog import EventLog
from tests.models.shop import DAY, START, VIEW, log_of, shop_log

NOW = START + 100 * DAY


def test_impossible_times_and_amounts_are_left_out_and_counted() -> None:
    log = log_of([1] * 5, [1, START, START + 5, NOW + 3 * DAY, START + 9], [VIEW] * 5)
    log.events.amount[2] = AMOUNT_LIMIT + 1
    found = Cleaning()
    kept = possible(log, NOW, found)
    assert kept.events.time.tolist() == [START, START + 9]
    assert (found.read, found.impossible_times, found.impossible_amounts) == (5, 2, 1)


@pytest.mark.parametrize(
    ("per", "times", "unit"),
    [
        (1_000, 1, "seconds"),
        (3_600_000, 1, "hours"),
        (86_400_000, 1, "days"),
        (1, 1_000, "microseconds"),
        (1, 1_000_000, "nanoseconds"),
    ],
)
def test_times_in_another_unit_are_named(per: int, times: int, unit: str) -> None:
    log = log_of([1, 2], [START // per * times, (START + DAY) // per * times], [VIEW] * 2)
    found = Cleaning(invalid={"truncated": 3})
    assert len(possible(log, NOW, found)) == 0
    assert found.impossible_units == {unit: 2}
    assert found.why_empty() == (
        f"no event can be used of 5 read: 3 invalid, truncated; 2 event_time looks like {unit},"
        " milliseconds since 1970 are needed; mend the producer or the files"
    )


def test_a_clock_from_the_future_makes_nothing_late() -> None:
    log = log_of([1, 1], [START, START + 5], [VIEW, VIEW])
    future = log_of([1], [NOW + 50 * DAY], [VIEW])
    future.events.id[:] = 99
    found = Cleaning()
    ordered = clean(EventLog.join([future, log]), 1000, NOW, found)
    assert len(ordered.log) == 2
    assert (found.late, found.impossible_times) == (0, 1)


def test_duplicates_and_late_events_are_counted() -> None:
    log = shop_log(users=30)
    again = log.take(np.arange(10))
    found = Cleaning()
    ordered = clean(EventLog.join([log, again]), None, NOW, found)
    assert found.duplicates == 10
    assert len(ordered.log) == len(log)
    late = Cleaning()
    clean(EventLog.join([log, again]), 1000, NOW, late)
    assert late.late > 0


def test_reports_add_up() -> None:
    one = Cleaning(read=3, invalid={"price": 1}, late=2, impossible_units={"days": 1})
    one.add(Cleaning(read=4, invalid={"price": 1, "time": 5}, bot_users=1))
    assert one == Cleaning(
        read=7,
        invalid={"price": 2, "time": 5},
        late=2,
        bot_users=1,
        impossible_units={"days": 1},
    )
