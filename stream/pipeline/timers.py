"""Absence timers: inactivity sends no event, so time itself must bring the users who are due.

There are two lanes of timers, because users follow two kinds of clocks, the wall and that of a
replay (`stream/pipeline/clocks.py`). A user of a dead replay is due long before now and is never
looked at; in a lane of their own such users delay no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from stream.pipeline.layout import LANE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.history import I64
    from stream.pipeline.churn import ChurnWatch
    from stream.pipeline.decisions import Decided
    from stream.pipeline.state import UserTable

    Look = Callable[[NDArray[np.intp], Decided], None]

NEVER: Final = 2**62
WALL, REPLAYS = 0, 1
"""Lanes."""
_PAGE: Final = 1_000_000
"""Due users of one tick that are brought into memory at once: more than a partition holds."""


class TimerIndex(Protocol):
    """The due-time index of a store."""

    def due(self, until_ms: int, limit: int, after: int = -1) -> list[tuple[int, bytes]]:
        """Return entries (due, stored key) later than ``after`` up to ``until_ms``, in order."""

    def first_due(self, after: int = -1) -> int | None:
        """Return the earliest due time later than ``after``."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which timers fire; times in ms."""

    lanes: tuple[int, ...]
    after: int
    until: int
    """A tick: timers fire that are due later than ``after`` and at or before this."""
    mine: Callable[[NDArray[np.intp]], NDArray[np.bool_]]
    """Which of some rows follow this clock."""
    decided: Callable[[I64], Decided]
    """What is to be said of decisions of some times."""
    to_wall: bool = False
    """Users that are evaluated follow the wall clock from then on."""


class Timers:
    """The timers of one partition.

    The index in the store says who may be due; the record says who is. Uncommitted changes are only
    in the table, so both are asked.
    """

    def __init__(self, table: UserTable, index: TimerIndex, watch: ChurnWatch, tick: int) -> None:
        """``tick`` in ms: timers fire on its multiples."""
        self._table = table
        self._index = index
        self._watch = watch
        self._tick = tick
        self._earliest = self._first_listed(WALL)

    def _first_listed(self, lane: int, after: int = -1) -> int:
        first = self._index.first_due(lane * LANE + after)
        return NEVER if first is None or first >= (lane + 1) * LANE else first - lane * LANE

    def tick_of(self, now: int) -> int:
        """The last tick at or before ``now``."""
        return now // self._tick * self._tick

    @property
    def earliest(self) -> int:
        """No timer of the wall's lane is due before this, as far as is known; ms."""
        return self._earliest

    def earliest_replayed(self, after: int) -> int:
        """No timer of the lane of replays is due later than ``after`` and before this, ms."""
        rows = self._unsettled(REPLAYS)
        due = self._table.records["due"][rows]
        due = due[due > after]
        return min(self._first_listed(REPLAYS, after), int(due.min()) if len(due) else NEVER)

    def note(self, rows: NDArray[np.intp]) -> None:
        """Rows were rescheduled, some maybe more than once."""
        if len(rows):
            due = self._table.records["due"][rows]
            due = due[(due > 0) & (self._table.records["replayed"][rows] == WALL)]
            if len(due):
                self._earliest = min(self._earliest, int(due.min()))

    def fire(self, scope: Scope, look: Look) -> None:
        """``look`` at every user in ``scope``, each at their due time, in order."""
        table, records = self._table, self._table.records
        rows = np.zeros(0, np.intp)
        for lane in scope.lanes:
            rows = np.union1d(rows, self._candidates(lane, scope)).astype(np.intp)
            records = table.records  # it may have grown
        rows = waiting = rows[scope.mine(rows)]
        while len(waiting):
            due = records["due"][waiting]
            waiting = waiting[(due > 0) & (due <= scope.until)]
            waiting = self._in_order(waiting)
            expired = self._watch.expired(records, waiting)
            gone, waiting = waiting[expired], waiting[~expired]
            rows = np.setdiff1d(rows, gone)
            for row in gone.tolist():
                table.forget(row)
            if len(waiting):
                if scope.to_wall:
                    records["replayed"][waiting] = WALL
                look(waiting, scope.decided(records["due"][waiting]))
                table.touch(waiting)
        self._relist(rows, scope)
        if WALL in scope.lanes or scope.to_wall:
            self._earliest = self._next(scope.until)

    def _candidates(self, lane: int, scope: Scope) -> NDArray[np.intp]:
        """Rows of a lane that may be due."""
        table, at = self._table, lane * LANE
        found = self._index.due(at + scope.until, _PAGE, at + scope.after)
        listed = [key for _, key in found if not table.forgotten(key)]
        changed = self._unsettled(lane)
        # An entry that is on its way to the index is as good as one there.
        due, entry = (table.records[name][changed] for name in ("due", "indexed_due"))
        is_due = (due > max(scope.after, 0)) & (due <= scope.until)
        changed = changed[is_due | ((entry > at) & (entry <= at + scope.until))]
        return np.union1d(table.rows(listed) if listed else [], changed).astype(np.intp)

    def _unsettled(self, lane: int) -> NDArray[np.intp]:
        rows = self._table.unsettled_rows()
        return np.asarray(rows[self._table.records["replayed"][rows] == lane])

    def _in_order(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """By due time, then user: row numbers are an accident of the cache."""
        due, key = self._table.records["due"], self._table.key
        return np.array(sorted(rows.tolist(), key=lambda row: (due[row], key(row))), np.intp)

    def _relist(self, rows: NDArray[np.intp], scope: Scope) -> None:
        """List users whose index entry is used up where they are due next."""
        records = self._table.records
        listed, lane = records["indexed_due"][rows], records["replayed"][rows].astype(np.int64)
        used = (listed // LANE != lane) | (listed <= lane * LANE + scope.until)
        behind, lane = rows[used], lane[used]
        due = records["due"][behind]
        records["indexed_due"][behind] = np.where(due > 0, lane * LANE + due, 0)
        self._table.touch(behind)

    def _next(self, tick: int) -> int:
        """The earliest of the wall's lane after ``tick``."""
        due = self._table.records["due"][self._unsettled(WALL)]
        due = due[due > tick]
        return min(int(due.min()) if len(due) else NEVER, self._first_listed(WALL, tick))
