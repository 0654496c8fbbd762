"""Which clock the timers of a user follow: the wall, or that of a replay.

An event that reaches Kafka more than `worker.history_age_ms` after it happened is of a replay (on
the event clock every event is). Replays are stretches of event time, each with a clock of its own
(`stream/kernels/replays.py`); a user whose latest event is of one follows its clock, all others
follow the wall. A replay has caught up when it reaches the time that is covered by live events, or
the present, to within `worker.history_gap_ms`, and none of its events has come for a while: then
its users follow the wall too. Another replay never catches up, and its users are left as they are.

All of it is durable and a function of the log, of the wall only in when a replay has caught up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from models.history import HISTORY, ON_TIME
from stream.kernels.buffers import joined
from stream.kernels.replays import (
    ARRIVED,
    CLOCK,
    EVENTS,
    ID,
    MOST,
    START,
    TOP,
    USERS,
    WIDTH,
    Course,
    ReplayRules,
    follow,
    user_code,
)
from stream.pipeline.state import USER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from models.history import I64
    from stream.config.settings import Settings
    from stream.pipeline.ingest import Decoded

_NEVER: Final = 2**62


class ClockState(msgspec.Struct):
    """What is durable of a partition's clocks; times in ms."""

    live_since: int = 0
    """From here on to the present the log covers the time, 0: no event has been live yet."""
    loaded: int = 0
    """Greatest Kafka timestamp of replays that have caught up."""
    fired: int = 0
    """Tick of the wall up to which timers of users of such replays have fired."""
    last_id: int = 0
    replays: list[list[int]] = []
    """Rows of `stream.kernels.replays`."""


class Arrivals(NamedTuple):
    """How N events reached Kafka."""

    stamps: I64
    """Kafka timestamps, ms, 0 for none."""
    past: NDArray[np.bool_]
    """Events that reached Kafka long after they happened, or at an unknown time."""
    replayed: NDArray[np.bool_]
    """Events of a replay: their users follow its clock."""

    on_time: NDArray[np.bool_] | None = None
    """Events of a replay that come when others say that they happened; None: not known of any."""

    @property
    def marks(self) -> NDArray[np.uint8]:
        """How each came, for `models.history`: `HISTORY` if its Kafka timestamp says so, `ON_TIME`.

        Without a timestamp nobody knows that an event was loaded.
        """
        marks = (self.past & (self.stamps > 0)) * np.uint8(HISTORY)
        if self.on_time is not None:
            marks |= self.on_time * np.uint8(ON_TIME)
        return marks

    def take(self, chosen: NDArray[np.intp] | slice) -> Arrivals:
        """The chosen ones, in that order."""
        on_time = None if self.on_time is None else self.on_time[chosen]
        return Arrivals(self.stamps[chosen], self.past[chosen], self.replayed[chosen], on_time)


class Firing(NamedTuple):
    """Timers that a replay's clock has come to."""

    replay: int
    """Its number."""
    after: int
    until: int
    """Ticks: they are due after the one and not after the other, ms."""


class Segment:
    """Events ``lo`` to ``hi`` of a micro-batch, between which no two replays become one."""

    def __init__(
        self, lo: int, hi: int, course: Course, stamps: I64, began: dict[int, int]
    ) -> None:
        """``began``: the tick of each replay before the segment."""
        self.lo, self.hi = lo, hi
        self.course = course.part(lo, hi)
        self._stamps = stamps[lo:hi]
        self._began = began
        # The rows of each replay whose clock crosses a tick here.
        ids = np.unique(self.course.replay[self.course.crossed]).tolist()
        self._rows = {number: np.flatnonzero(self.course.replay == number) for number in ids}

    def firings(self, end: int, reached: dict[int, int]) -> list[Firing]:
        """What to fire before the event at ``end`` (counted from ``lo``), once.

        ``reached``: tick of each replay behind the segment; one that has become one with another
        may have gone back.
        """
        found = []
        for number, rows in self._rows.items():
            seen = int(np.searchsorted(rows, end))
            if not seen or number not in reached:
                continue
            first = int(self.course.tick[rows[0]])
            after = self._began.get(number, first)
            until = min(int(self.course.tick[rows[seen - 1]]), reached[number])
            if until > after:
                self._began[number] = until
                found.append(Firing(number, after, until))
        return found

    def arrived(self, replay: int, due: I64) -> I64:
        """Kafka timestamps of the events that brought a replay's clock to some times; 0 unknown."""
        rows = self._rows[replay]
        at = np.searchsorted(self.course.tick[rows], due)
        return self._stamps[rows[np.minimum(at, len(rows) - 1)]]


class Clocks:
    """The clocks of one partition."""

    def __init__(self, settings: Settings, state: ClockState) -> None:
        """Go on from ``state``, which is kept up to date by `save`."""
        worker, state_settings = settings.worker, settings.state
        self._mode = worker.clock
        self._age, self._earliest = worker.history_age_ms, worker.earliest_ms
        self._gap, grace = worker.history_gap_ms, state_settings.grace_ms
        self._quiet = grace
        self._rules = ReplayRules(self._gap, grace, grace, settings.churn.replay_tick_ms)
        self._state = state
        self._table = np.zeros((MOST, WIDTH), np.int64)
        self._count = len(state.replays)
        for row, kept in zip(self._table, state.replays, strict=False):
            row[: len(kept)] = kept

    @property
    def state(self) -> ClockState:
        """What is durable."""
        return self._state

    @property
    def used(self) -> bool:
        """Whether there may be users who do not simply follow the wall."""
        return self._state.last_id > 0

    def save(self) -> None:
        """Bring the durable state up to date."""
        self._state.replays = self._table[: self._count].tolist()

    def forget(self, user_id: str) -> None:
        """Remove the hash of a user who is erased."""
        keys, ends = joined([USER_PREFIX + user_id.encode()])
        user = user_code(keys, 0, ends[0])
        for column in USERS:
            self._table[self._table[:, column] == user, column] = 0
        self.save()

    def arrivals(self, decoded: Decoded) -> Arrivals:
        """How the events of a micro-batch reached Kafka."""
        times, stamps = decoded.events.time, decoded.timestamps
        known = stamps >= self._earliest
        if not known.all():
            stamps = np.where(known, stamps, 0)
        past = stamps - times > self._age
        if self._mode == "auto":
            past |= ~known
            return Arrivals(stamps, past, past)
        replayed = np.full(len(times), self._mode == "event")
        return Arrivals(stamps, past, replayed)

    def follow(self, decoded: Decoded, arrivals: Arrivals) -> Iterator[Segment]:
        """Take the events of a micro-batch in, segment by segment."""
        times, replayed = decoded.events.time, arrivals.replayed
        keys, ends = joined(decoded.keys)
        course, lo = Course.empty(len(times)), 0
        while lo < len(times):
            began = self.ticks()
            hi, self._count, self._state.last_id = follow(
                times,
                replayed,
                arrivals.stamps,
                keys,
                ends,
                lo,
                self._rules,
                self._table,
                self._count,
                self._state.last_id,
                course,
            )
            yield Segment(lo, hi, course, arrivals.stamps, began)
            lo = hi
        self.save()

    def live(self, first: int) -> None:
        """Note that there are live events from ``first`` (ms) on."""
        if self._mode == "auto":
            since = self._state.live_since
            self._state.live_since = min(since, first) if since else first

    def ticks(self) -> dict[int, int]:
        """Number of each replay -> the tick of its clock, ms."""
        grace, tick = self._rules.grace, self._rules.tick
        return {
            row[ID]: (row[CLOCK] - grace) // tick * tick
            for row in self._table[: self._count].tolist()
        }

    def reached(self) -> int:
        """The clock of the replay with most events, ms; 0 without any."""
        rows = self._table[: self._count]
        return int(rows[rows[:, EVENTS].argmax(), CLOCK]) if len(rows) else 0

    def inside(self, replay: int, last_times: I64) -> NDArray[np.bool_]:
        """Which users, by the time of their latest event, are of a replay."""
        inside = np.zeros(len(last_times), np.bool_)
        for row in self._table[: self._count].tolist():
            if row[ID] == replay:
                inside |= (last_times >= row[START]) & (last_times <= row[TOP])
        return inside

    def on_wall(self, last_times: I64) -> NDArray[np.bool_]:
        """Which users of replays follow the wall, because theirs has caught up."""
        since = self._state.live_since or _NEVER
        found = last_times >= since
        for row in self._table[: self._count].tolist():
            found &= (last_times < row[START]) | (last_times > row[TOP])
        return found

    def next_change(self) -> int:
        """No replay catches up before this, ms."""
        if self._mode != "auto":
            return _NEVER
        ripe = [
            row[ARRIVED] + self._quiet
            for row in self._table[: self._count].tolist()
            if not row[ARRIVED] or self._connected(row, row[ARRIVED] + self._quiet)
        ]
        return min(ripe, default=_NEVER)

    def catch_up(self, now: int) -> int | None:
        """Let the replays that have caught up follow the wall; where the first of them begins, ms.

        ``now``: the wall, or with a backlog the Kafka timestamp of the last record consumed, ms.
        """
        since, state, r = None, self._state, 0
        while self._mode == "auto" and r < self._count:
            row = self._table[r]
            if not row[ARRIVED]:
                row[ARRIVED] = now  # the time is unknown, so it is quiet from now on
            if now - row[ARRIVED] < self._quiet or not self._connected(row, now):
                r += 1
                continue
            start = int(row[START])
            since = start if since is None else min(since, start)
            state.loaded = max(state.loaded, int(row[ARRIVED]))
            state.live_since = min(state.live_since, start) if state.live_since else start
            self._table[r : self._count - 1] = self._table[r + 1 : self._count]
            self._count -= 1
            r = 0  # one that reaches this one has caught up with it
        if since is not None:
            self.save()
        return since

    def _connected(self, row: list[int] | I64, now: int) -> bool:
        covered = int(row[CLOCK]) + self._gap
        live = self._state.live_since
        return covered >= now or (live > 0 and covered >= live)
