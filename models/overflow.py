"""What histories hold beyond their rings: events that left the ring and are still within the grace.

One arena per table of records, in columns that the kernels change (``models/kernels/overflow.py``);
here is what Python does with it: read, fill, release, tidy up. A record without such events takes
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.history import ENTRY, Records
from models.kernels.columns import Columns
from models.kernels.overflow import OverflowColumns, arena_of, fill_overflow

_WORTH_TIDYING: Final = 1 << 16
"""An arena of fewer entries is left as it is."""


@dataclass(frozen=True, slots=True)
class Held:
    """The overflow of one history."""

    entries: NDArray[np.void]
    """Oldest first, of dtype ``ENTRY``."""
    purchase: int
    """Newest purchase, not late, before them, or before the ring where there are none, ms; 0: no
    such purchase."""

    @staticmethod
    def none() -> Held:
        """Of a history without events."""
        return Held(np.empty(0, ENTRY), 0)


class Overflow:
    """The overflow of all records of a table."""

    def __init__(self, rows: int) -> None:
        """Begin with nothing held, for a table of ``rows`` records."""
        self.columns: OverflowColumns = arena_of(0, rows)

    def grow(self, rows: int) -> None:
        """Follow a table that has more records from now on."""
        more = np.zeros(rows - len(self.columns.base), np.int64)
        names = ("base", "room", "head", "purchase")
        wider = {name: np.concatenate((getattr(self.columns, name), more)) for name in names}
        self.columns = self.columns._replace(**wider)

    def of(self, records: Records, row: int) -> Held:
        """What the record at ``row`` holds."""
        count, o = int(records["overflow"][row]), self.columns
        begin = int(o.base[row] + o.head[row])
        entries = np.zeros(count, ENTRY)
        for name in ENTRY.names or ():
            entries[name] = getattr(o, name)[begin : begin + count]
        return Held(entries, int(o.purchase[row] if count else records["evicted_purchase"][row]))

    def put(self, records: Records, row: int, held: Held) -> None:
        """Make ``held`` what the record at ``row``, which holds nothing, holds."""
        records["overflow"][row] = 0
        fields = (np.ascontiguousarray(held.entries[name]) for name in ENTRY.names or ())
        self.columns = fill_overflow(
            Columns.of(records), self.columns, row, tuple(fields), held.purchase
        )

    def release(self, row: int) -> None:
        """Let go of what a record held that leaves the table."""
        self.columns.room[row] = 0

    def tidy(self, records: Records) -> None:
        """Give memory back once less than a quarter of the arena is in use."""
        o = self.columns
        if int(o.free[0]) < _WORTH_TIDYING:
            return
        rows = np.flatnonzero(o.room)
        idle = rows[records["overflow"][rows] == 0]
        o.room[idle] = 0
        if 4 * int(o.room.sum()) > int(o.free[0]):
            return
        rows = np.flatnonzero(o.room)
        kept = [(int(row), self.of(records, int(row))) for row in rows]
        self.columns = arena_of(int(o.room.sum()), len(o.base))
        for row, held in kept:
            self.put(records, row, held)
