"""Sorting a log, and leaving out what serving left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DatasetError
from models.history import Events
from models.log.eventlog import EventLog, in_order

arrivals = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=40
)


def log_from(rows: list[tuple[int, int, int]]) -> EventLog:
    users, times, ids = (np.array(column) for column in zip(*rows, strict=True))
    size = len(rows)
    return EventLog(
        users.astype(np.uint64),
        Events(
            times.astype(np.int64),
            ids.astype(np.uint64),
            np.ones(size, np.uint8),
            np.arange(size, dtype=np.uint32),
            np.zeros(size, np.uint16),
            np.zeros(size, np.int64),
            np.zeros(size, np.uint32),
            np.ones(size, np.uint32),
        ),
    )


@pytest.mark.slow
@given(arrivals, st.one_of(st.none(), st.integers(0, 30)))
def test_it_equals_a_plain_reading_of_the_rules(
    rows: list[tuple[int, int, int]], grace: int | None
) -> None:
    kept: list[tuple[int, int, int, int]] = []
    newest: dict[int, int] = {}
    late = duplicates = 0
    for place, (user, time, ident) in enumerate(rows):
        if grace is not None and time < newest.get(user, 0) - grace:
            late += 1
            continue
        newest[user] = max(newest.get(user, 0), time)
        if any(k[0] == user and k[2] == ident for k in kept):
            duplicates += 1
            continue
        kept.append((user, time, ident, place))
    found = in_order(log_from(rows), grace)
    expected = sorted(kept)
    assert found.log.users.tolist() == [k[0] for k in expected]
    assert found.log.events.time.tolist() == [k[1] for k in expected]
    assert found.log.events.id.tolist() == [k[2] for k in expected]
    assert found.log.events.item.tolist() == [k[3] for k in expected]
    assert (found.late, found.duplicates + found.reused) == (late, duplicates)
    users = sorted({k[0] for k in kept})
    assert found.log.users[found.starts].tolist() == users
    assert found.sizes.tolist() == [sum(k[0] == u for k in kept) for u in users]


def test_times_at_the_ends_of_the_calendar_do_not_overflow() -> None:
    rows = [(user, time, 1 + user) for user in (1, 2**60) for time in (1, 253_402_300_799_999)]
    found = in_order(log_from([(u, t, i) for i, (u, t, _) in enumerate(rows, 1)]), 10)
    assert found.late == 0
    assert len(found.log) == 4


def test_an_empty_log_says_so() -> None:
    log = log_from([(1, 5, 1)])
    with pytest.raises(DatasetError, match="event log is empty"):
        in_order(log.until(4), None)
    assert len(EventLog.join([log, log])) == 2
