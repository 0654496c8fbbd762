"""Replays found by the kernel, against the plain rules and against what a shop would expect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.kernels.buffers import joined
from stream.kernels.replays import (
    AHEAD,
    ARRIVED,
    CLOCK,
    EVENTS,
    ID,
    LASTING,
    MOST,
    START,
    TOP,
    WIDTH,
    WITNESSES,
    Course,
    ReplayRules,
    follow,
)
from tests.stream.kernels.replay_rules import Replays

RULES = ReplayRules(gap=30, bound=3, grace=3, tick=5)
Event = tuple[int, str]


class Kernel:
    """The kernel over batches, with what a partition keeps between them."""

    def __init__(self, rules: ReplayRules = RULES) -> None:
        self.rules, self.count, self.last = rules, 0, 0
        self.table = np.zeros((MOST, WIDTH), np.int64)

    def take(self, events: list[Event], stamps: list[int] | None = None) -> Course:
        times = np.array([time for time, _ in events], np.int64)
        keys, ends = joined([user.encode() for _, user in events])
        came = np.array(stamps or [0] * len(events), np.int64)
        course, at, old = Course.empty(len(events)), 0, np.ones(len(events), np.bool_)
        while at < len(events):
            at, self.count, self.last = follow(
                times,
                old,
                came,
                keys,
                ends,
                at,
                self.rules,
                self.table,
                self.count,
                self.last,
                course,
            )
        return course

    def clocks(self) -> list[int]:
        return sorted(self.table[: self.count, CLOCK].tolist())


event = st.tuples(
    st.one_of(st.integers(1, 60), st.integers(1, 600), st.integers(1, 20_000)),
    st.sampled_from("abcd"),
)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(st.tuples(event, st.integers(0, 9)), min_size=1, max_size=120), st.integers(1, 40))
def test_the_kernel_is_the_plain_rules_for_any_batches(
    events: list[tuple[Event, int]], batch: int
) -> None:
    plain, kernel = Replays(RULES), Kernel()
    want = [plain.take(time, user, stamp) for (time, user), stamp in events]
    got = []
    for lo in range(0, len(events), batch):
        part = events[lo : lo + batch]
        course = kernel.take([e for e, _ in part], [s for _, s in part])
        columns = (
            column.tolist()
            for column in (course.replay, course.tick, course.crossed, course.on_time)
        )
        got += list(zip(*columns, strict=True))
    assert got == want
    columns = [ID, START, CLOCK, TOP, EVENTS, AHEAD, ARRIVED]
    rows = [[r.number, r.start, r.clock, r.top, r.events, r.ahead, r.arrived] for r in plain.rows]
    assert kernel.table[: kernel.count, columns].tolist() == rows
    ahead = kernel.table[: kernel.count, AHEAD] > 0
    found = kernel.table[: kernel.count, WITNESSES][ahead].tolist()
    assert found == [r.witnesses for r in plain.rows if r.ahead]


def crowd(start: int, end: int, users: str = "abcd") -> list[Event]:
    return [(time, users[time % len(users)]) for time in range(start, end)]


@pytest.mark.slow
def test_one_wrong_clock_moves_nobody() -> None:
    kernel = Kernel()
    kernel.take(crowd(100, 120))
    kernel.take([(135, "z")] * 20)
    kernel.take([(10_000, "z")] * 20)
    assert kernel.clocks() == [119, 10_000]
    kernel.take(crowd(120, 125))
    assert kernel.clocks() == [124, 10_000]


def test_two_wrong_clocks_in_turn_move_nobody() -> None:
    kernel = Kernel()
    kernel.take(crowd(100, 120))
    kernel.take([(140 + n % 8, "xy"[n % 2]) for n in range(20)])
    assert kernel.clocks() == [119]
    kernel.take(crowd(120, 125))
    assert kernel.clocks() == [124]
    assert kernel.table[0, AHEAD] == 0


def test_a_log_of_two_users_goes_on() -> None:
    kernel = Kernel()
    kernel.take([(time, "ab"[time // 4 % 2]) for time in range(100, 500, 4)])
    assert len(kernel.clocks()) == 1
    assert kernel.clocks()[0] > 480


def test_a_log_of_which_two_users_are_left_goes_on() -> None:
    kernel = Kernel()
    kernel.take(crowd(100, 120))
    kernel.take([(125 + n % 8, "ab"[n % 2]) for n in range(LASTING)])
    assert kernel.clocks() == [125]


def test_wrong_clocks_now_and_then_move_nobody() -> None:
    kernel = Kernel()
    events = crowd(100, 200)
    for at, user in ((10, "x"), (30, "y"), (50, "z"), (51, "z"), (70, "x")):
        events.insert(at, (events[at][0] + 25, user))
    kernel.take(events)
    assert kernel.clocks() == [199]
    assert kernel.table[0, AHEAD] == 0


def test_a_shop_that_was_closed_goes_on() -> None:
    kernel = Kernel()
    kernel.take(crowd(100, 120) + crowd(140, 160))
    assert kernel.clocks() == [159]


def test_a_log_of_one_user_goes_on() -> None:
    kernel = Kernel()
    for time in range(100, 1_000, 25):
        kernel.take([(time, "a")])
        assert kernel.clocks() == [time]


def test_stretches_become_one_when_the_time_between_is_filled() -> None:
    kernel = Kernel()
    kernel.take(crowd(100, 120))
    kernel.take(crowd(200, 220))
    assert kernel.clocks() == [119, 219]
    kernel.take(crowd(120, 175))
    # More may come in between, so time goes on where the filling has got to.
    assert kernel.clocks()[0] < 180
    kernel.take(crowd(175, 260))
    assert kernel.clocks() == [259]


def test_noise_does_not_push_out_a_large_replay() -> None:
    kernel = Kernel()
    kernel.take(crowd(100, 160))
    kernel.take([(1_000 * n, f"u{n}") for n in range(1, 40)])
    assert kernel.count == MOST
    assert kernel.clocks()[0] == 159
