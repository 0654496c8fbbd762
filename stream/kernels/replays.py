"""Replays in a log: which stretch of event time an old event is of, and how far each has got.

The same rules in plain Python, which tests compare: ``tests/stream/kernels/replay_rules.py``.

A replay is a connected stretch of event time. Its clock follows its events, with one exception: an
event that is further ahead of it than a bound is believed only when the next ones, of three users
in all, are there as well. So one wrong clock, or two, moves no other user's time, and a shop that
was closed moves everybody's. A replay of one user alone follows that user.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.history import I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8, xxh3_64

ID, START, CLOCK, TOP, EVENTS, USER, AHEAD, AHEAD_USER, WITNESSES, ARRIVED = range(10)
OTHER, FIRST, SECOND, DISTINCT, RUN_FIRST, RUN_SECOND, RUN = range(10, 17)
"""Columns of a table of replays.

Number; first, reached and greatest event time, ms; events; code of the only user, or of one of two,
0 of more; the time that is not believed yet, ms, 0 for none; code of the last user who was there;
how many times users took turns there; greatest Kafka timestamp, ms, 0 for none. Code of the other
one of two users; codes of the first two users who were there; how many different ones were, up to
`WITNESSED`. The same three of the users who were not further ahead than the clock, since one was.
"""
USERS: Final = (USER, AHEAD_USER, OTHER, FIRST, SECOND, RUN_FIRST, RUN_SECOND)
"""Columns with codes of users."""
WIDTH: Final = 17
"""Rows of earlier releases are shorter: what they lack is 0."""
MOST: Final = 8
"""Replays that are told apart; the one with the fewest events makes room for the next."""
WITNESSED: Final = 3
"""A time is believed after so many events one after the other, each of another user than the one
before, and of so many different users, or of both where a replay has but two."""
LASTING: Final = 64
"""After so many of them two users are enough: all others may have left the shop."""


class ReplayRules(NamedTuple):
    """Bounds, ms."""

    gap: int
    """Events this far apart are of one stretch."""
    bound: int
    """An event may move the clock ahead by so much on its own."""
    grace: int
    """Timers fire up to the clock less the grace."""
    tick: int
    """Timers fire on multiples of this."""


class Course(NamedTuple):
    """What N events find; rows are filled for events of a replay."""

    replay: I64
    """Number of the event's replay, 0: it is of none."""
    tick: I64
    """Tick of its clock after the event, ms."""
    reached: I64
    """Greatest tick that any clock crossed, since `follow` was called, before the event."""
    crossed: NDArray[np.bool_]
    """Its clock crosses a tick at this event."""
    on_time: NDArray[np.bool_]
    """It is no older than its clock less the grace, and three users say what the clock says."""

    @classmethod
    def empty(cls, count: int) -> Course:
        """Room for ``count`` events, none of a replay."""
        none = np.zeros(count, np.int64)
        no = np.zeros(count, np.bool_)
        return cls(none, none.copy(), none.copy(), no, no.copy())

    def part(self, lo: int, hi: int) -> Course:
        """The rows from ``lo`` to ``hi``."""
        replay, tick, reached, crossed, on_time = self
        part = slice(lo, hi)
        return Course(replay[part], tick[part], reached[part], crossed[part], on_time[part])


@kernel
def user_code(keys: U8, begin: int, end: int) -> Any:
    """A number for a user, never 0."""
    return np.int64(max(xxh3_64(keys, begin, end - begin), np.uint64(1)))


@kernel
def _place(table: I64, count: int, time: int, gap: int) -> int:
    """Row of the replay that an event belongs to, -1 for none."""
    for r in range(count):
        if table[r, START] <= time <= table[r, TOP]:
            return r
    for r in range(count):
        if table[r, START] - gap <= time <= table[r, CLOCK] + gap:
            return r
    return -1


@kernel
def _drop(table: I64, count: int, row: int) -> int:
    for r in range(row, count - 1):
        table[r] = table[r + 1]
    return count - 1


@kernel
def _meet(table: I64, r: int, user: int) -> None:
    """Note a user of a replay."""
    if user in (table[r, USER], table[r, OTHER]):
        return
    if table[r, USER] != 0 and table[r, OTHER] == 0:
        table[r, OTHER] = user
    else:
        table[r, USER] = table[r, OTHER] = 0


@kernel
def _count_user(table: I64, r: int, user: int, first: int, second: int, count: int) -> None:
    """Count a user among different ones; the columns are those of two of them and of how many."""
    if user in (table[r, first], table[r, second]):
        return
    if table[r, first] == 0:
        table[r, first] = user
    elif table[r, second] == 0:
        table[r, second] = user
    table[r, count] = min(table[r, count] + 1, WITNESSED)


@kernel
def _ahead(table: I64, r: int, time: int, user: int) -> None:
    """A user is the first at a time that is not believed yet."""
    table[r, AHEAD], table[r, WITNESSES] = time, 1
    table[r, FIRST] = table[r, SECOND] = table[r, DISTINCT] = 0
    _count_user(table, r, user, FIRST, SECOND, DISTINCT)


@kernel
def _move(table: I64, r: int, time: int, user: int, bound: int) -> None:
    """The clock of a replay sees an event of it."""
    alone = table[r, USER] == user and table[r, OTHER] == 0
    if alone or time <= table[r, CLOCK] + bound:
        table[r, CLOCK] = max(table[r, CLOCK], time)
        if time < table[r, AHEAD] - bound or table[r, CLOCK] >= table[r, AHEAD]:
            table[r, AHEAD] = 0
        return
    if table[r, AHEAD] == 0:
        _ahead(table, r, time, user)
    else:
        table[r, AHEAD] = min(table[r, AHEAD], time)
        table[r, WITNESSES] += user != table[r, AHEAD_USER]
        _count_user(table, r, user, FIRST, SECOND, DISTINCT)
    table[r, AHEAD_USER] = user
    different = WITNESSED if table[r, USER] == 0 else 2
    enough = table[r, DISTINCT] >= different or table[r, WITNESSES] >= LASTING
    if table[r, WITNESSES] >= WITNESSED and enough:
        table[r, CLOCK], table[r, AHEAD] = table[r, AHEAD], 0
        if time <= table[r, CLOCK] + bound:
            table[r, CLOCK] = max(table[r, CLOCK], time)
        else:
            _ahead(table, r, time, user)


@kernel
def _joined(table: I64, count: int, r: int, gap: int) -> int:
    """Another row that a replay has become one with, -1 for none."""
    for s in range(count):
        lower, upper = (r, s) if table[r, START] <= table[s, START] else (s, r)
        if s != r and table[lower, CLOCK] + gap >= table[upper, START]:
            return s
    return -1


@kernel
def _join(table: I64, count: int, r: int, s: int) -> int:
    """Make one of two rows. The clock is the one that is behind: more may come in between."""
    table[r, START] = min(table[r, START], table[s, START])
    table[r, CLOCK] = min(table[r, CLOCK], table[s, CLOCK])
    table[r, TOP] = max(table[r, TOP], table[s, TOP])
    table[r, EVENTS] += table[s, EVENTS]
    table[r, ARRIVED] = max(table[r, ARRIVED], table[s, ARRIVED])
    if table[s, USER] == 0:
        table[r, USER] = table[r, OTHER] = 0
    else:
        _meet(table, r, table[s, USER])
        if table[s, OTHER] != 0:
            _meet(table, r, table[s, OTHER])
    table[r, AHEAD] = table[r, RUN_FIRST] = table[r, RUN_SECOND] = table[r, RUN] = 0
    return _drop(table, count, s)


@kernel
def _fewest(table: I64, count: int) -> int:
    row = 0
    for r in range(1, count):
        if table[r, EVENTS] < table[row, EVENTS]:
            row = r
    return row


@kernel
def follow(
    times: I64,
    old: NDArray[np.bool_],
    stamps: I64,
    keys: U8,
    ends: I64,
    first: int,
    rules: ReplayRules,
    table: I64,
    count: int,
    last_id: int,
    course: Course,
) -> Any:
    """Take events up to one that makes two replays one, or a large one give way; that one alone.

    Args:
        times: [N] event times, ms.
        old: [N] which events are of a replay.
        stamps: [N] Kafka timestamps, ms, 0 for none.
        keys: the users' keys, one behind the other.
        ends: [N] where each ends.
        first: index of the first event to take.
        rules: the bounds.
        table: [MOST, WIDTH] the replays; changed in place.
        count: rows in use.
        last_id: number given last.
        course: filled.

    Returns:
        (index behind the last event taken, count, last_id).
    """
    top = np.int64(-1)
    kept = table.copy()
    for i in range(first, len(times)):
        course.reached[i] = top
        if not old[i]:
            continue
        begin = ends[i - 1] if i > 0 else 0
        user = user_code(keys, begin, ends[i])
        time = times[i]
        kept[:], kept_count, kept_id = table, count, last_id
        r = _place(table, count, time, rules.gap)
        if r < 0:
            if count == len(table):
                fewest = _fewest(table, count)
                if table[fewest, EVENTS] > 1 and i > first:
                    return i, count, last_id
                count = _drop(table, count, fewest)
            r, count, last_id = count, count + 1, last_id + 1
            table[r] = 0
            table[r, ID] = last_id
            table[r, START] = table[r, CLOCK] = table[r, TOP] = time
            table[r, USER] = user
        before = (table[r, CLOCK] - rules.grace) // rules.tick
        table[r, START] = min(table[r, START], time)
        table[r, EVENTS] += 1
        table[r, ARRIVED] = max(table[r, ARRIVED], stamps[i])
        _meet(table, r, user)
        _move(table, r, time, user, rules.bound)
        if time > table[r, CLOCK] + rules.bound:
            table[r, RUN_FIRST] = table[r, RUN_SECOND] = table[r, RUN] = 0
        elif time >= table[r, CLOCK] - rules.grace:
            _count_user(table, r, user, RUN_FIRST, RUN_SECOND, RUN)
            course.on_time[i] = table[r, RUN] >= WITNESSED
        table[r, TOP] = max(table[r, TOP], time)
        tick = (table[r, CLOCK] - rules.grace) // rules.tick
        course.replay[i] = table[r, ID]
        course.tick[i] = tick * rules.tick
        if tick > before:
            course.crossed[i] = True
            top = max(top, tick * rules.tick)
        s = _joined(table, count, r, rules.gap)
        if s >= 0 and i > first:
            # Timers up to here belong to the replays as they were.
            table[:] = kept
            course.replay[i], course.tick[i], course.crossed[i] = 0, 0, False
            course.on_time[i] = False
            return i, kept_count, kept_id
        if s >= 0:
            while s >= 0:
                own = table[r, ID]
                count = _join(table, count, r, s)
                r -= s < r
                table[r, ID] = own
                s = _joined(table, count, r, rules.gap)
            return i + 1, count, last_id
    return len(times), count, last_id
