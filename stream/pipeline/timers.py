"""Absence timers: silence sends no event, so time itself must bring the users who are due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stream.pipeline.churn import ChurnWatch
    from stream.pipeline.state import UserTable

    Look = Callable[[NDArray[np.intp]], None]

_NEVER: Final = 2**62
_PAGE: Final = 1_000_000
"""Due users of one tick that are brought into memory at once: more than a partition holds."""


class TimerIndex(Protocol):
    """The due-time index of a store."""

    def due(self, until_ms: int, limit: int) -> list[tuple[int, bytes]]:
        """Return entries (due, stored key) up to ``until_ms``, in order."""

    def first_due(self, after: int = -1) -> int | None:
        """Return the earliest due time later than ``after``."""


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
        self._fired = 0
        self._earliest = self._first_listed()

    def _first_listed(self) -> int:
        first = self._index.first_due()
        return _NEVER if first is None else first

    def tick_of(self, now: int) -> int:
        """The last tick at or before ``now``."""
        return now // self._tick * self._tick

    @property
    def earliest(self) -> int:
        """No timer is due before this, as far as is known; ms."""
        return self._earliest

    def note(self, rows: NDArray[np.intp]) -> None:
        """Rows were rescheduled, some maybe more than once."""
        if len(rows):
            due = self._table.records["due"][rows]
            due = due[due > 0]
            if len(due):
                self._earliest = min(self._earliest, int(due.min()))

    def fire(self, now: int, look: Look) -> None:
        """``look`` at every user due at or before the tick of ``now``, each at its due time."""
        tick = self.tick_of(now)
        if tick <= self._fired or self._earliest > tick:
            return
        self._fired = tick
        table = self._table
        listed = [key for _, key in self._index.due(tick, _PAGE) if not table.forgotten(key)]
        rows = np.union1d(table.rows(listed) if listed else [], self._changed(tick))
        rows = rows.astype(np.intp)
        waiting = rows
        while len(waiting):
            due = table.records["due"][waiting]
            waiting = waiting[(due > 0) & (due <= tick)]
            waiting = self._in_order(waiting)
            expired = self._watch.expired(table.records, waiting)
            gone, waiting = waiting[expired], waiting[~expired]
            rows = np.setdiff1d(rows, gone)
            for row in gone.tolist():
                table.forget(row)
            if len(waiting):
                look(waiting)
                table.touch(waiting)
        self._relist(rows, tick)
        self._earliest = self._next(tick)

    def _in_order(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """By due time, then user: row numbers are an accident of the cache."""
        due, key = self._table.records["due"], self._table.key
        return np.array(sorted(rows.tolist(), key=lambda row: (due[row], key(row))), np.intp)

    def _changed(self, tick: int) -> NDArray[np.intp]:
        rows = self._table.unsettled_rows()
        due = self._table.records["due"][rows]
        return rows[(due > 0) & (due <= tick)]

    def _relist(self, rows: NDArray[np.intp], tick: int) -> None:
        """List users whose index entry is used up where they are due next."""
        records = self._table.records
        behind = rows[(records["indexed_due"][rows] <= tick)]
        records["indexed_due"][behind] = records["due"][behind]
        self._table.touch(behind)

    def _next(self, tick: int) -> int:
        rows = self._table.unsettled_rows()
        due = self._table.records["due"][rows]
        due = due[due > tick]
        listed = self._index.first_due(tick)
        return min(int(due.min()) if len(due) else _NEVER, _NEVER if listed is None else listed)
