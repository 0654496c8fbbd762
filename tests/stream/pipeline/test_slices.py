"""Where micro-batches are cut, against the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.kernels.replays import Course
from stream.pipeline.slices import cuts

GRACE, TICK, WAIT = 5, 10, 12

event = st.tuples(st.integers(0, 3), st.integers(1, 120))


def along(times: list[int], watermark: int) -> Course:
    """A course of one replay whose clock follows every event."""
    course = Course.empty(len(times))
    tick, top = (watermark - GRACE) // TICK, -1
    for i, time in enumerate(times):
        course.reached[i] = top
        watermark = max(watermark, time)
        new = (watermark - GRACE) // TICK
        if new > tick:
            course.crossed[i], tick, top = True, new, new * TICK
        course.tick[i] = tick * TICK
    return course


def test_nobody_endangered_means_one_slice() -> None:
    rows = np.array([0, 1, 2, 3])
    times = np.array([10, 20, 30, 40])
    due = np.array([0, 100, 15, 0])
    # User 2 is due at 15; the clock's tick reaches only 10 before its event.
    assert cuts(along(times.tolist(), 0), rows, due, times, WAIT) == [4]


def test_a_due_user_with_a_later_event_cuts_at_the_last_crossing_before_it() -> None:
    rows = np.array([1, 1, 1, 0, 1])
    times = np.array([10, 26, 27, 28, 29])
    due = np.array([0, 0, 0, 20, 0])
    assert cuts(along(times.tolist(), 0), rows, due, times, 1000) == [2, 5]


@pytest.mark.slow
@given(st.lists(event, min_size=1, max_size=40), st.integers(0, 60), st.data())
def test_every_endangered_event_has_a_cut_between_it_and_its_due_time(
    events: list[tuple[int, int]], watermark: int, data: st.DataObject
) -> None:
    rows = np.array([row for row, _ in events])
    times = np.array([time for _, time in events])
    course, before = along(times.tolist(), watermark), (watermark - GRACE) // TICK * TICK
    by_user = [data.draw(st.one_of(st.just(0), st.integers(before + 1, 150))) for _ in range(4)]
    due = np.array([max(by_user[row], 0) for row in rows])
    ends = cuts(course, rows, due, times, WAIT)
    assert ends[-1] == len(events)
    assert ends == sorted(set(ends))
    for j, (row, _) in enumerate(events):
        possible = [d for d in [by_user[row]] if d > 0]
        possible += [t + WAIT for i, (r, t) in enumerate(events[:j]) if r == row]
        for when in possible:
            crossed = [i for i in range(j) if course.tick[i] >= when]
            already = before >= when
            # Fired at the end of a slice between the crossing and the event.
            assert not crossed or already or any(crossed[0] < end <= j for end in ends), (j, when)
