"""What histories hold beyond their rings: events that left the ring and are still within the grace.

One arena per table of records, whose entries the kernels change (``models/kernels/overflow.py``);
here is what Python does with it: read, fill, grow, release, tidy up. A record without such events
takes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.history import ENTRY, I64, Records
from models.kernels.overflow import fill_overflow, reserve, size_for
from models.kernels.places import FREE, SEGMENT, Arena, Table

if TYPE_CHECKING:
    from models.kernels.columns import Limits

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
        self._segments = np.zeros(rows, SEGMENT)
        self._begin(0)

    def _begin(self, entries: int) -> None:
        self._entries = np.zeros(entries, ENTRY)
        self._seen = np.zeros(entries, np.uint32)
        self._free = np.zeros(1, FREE)

    @property
    def arena(self) -> Arena:
        """Where it lies, for kernels; until it grows."""
        arrays = (self._entries, self._seen, self._segments, self._free)
        return Arena._make([*(one.ctypes.data for one in arrays), len(self._entries)])

    def grow(self, rows: int) -> None:
        """Follow a table that has more records from now on."""
        more = np.zeros(rows - len(self._segments), SEGMENT)
        self._segments = np.concatenate((self._segments, more))

    def reserve(self, table: Table, rows: I64, newest: I64, limits: Limits) -> None:
        """Make room for all that events of ``rows``, one each, may leave beyond the rings.

        ``newest``: a number per record, 0 before and after.
        """
        needed = reserve(table, self.arena, rows, newest, limits)
        if self._need(needed):
            reserve(table, self.arena, rows, newest, limits)

    def _need(self, entries: int) -> bool:
        """Have so many free entries; whether the arena had to grow for it."""
        used, size = int(self._free["begin"][0]), len(self._entries)
        if used + entries <= size:
            return False
        more = max(2 * size, used + entries) - size
        self._entries = np.concatenate((self._entries, np.zeros(more, ENTRY)))
        self._seen = np.concatenate((self._seen, np.zeros(more, np.uint32)))
        return True

    def of(self, records: Records, row: int) -> Held:
        """What the record at ``row`` holds."""
        count, segment = int(records["overflow"][row]), self._segments[row]
        begin = int(segment["base"] + segment["head"])
        entries = self._entries[begin : begin + count].copy()
        return Held(
            entries, int(segment["purchase"] if count else records["evicted_purchase"][row])
        )

    def put(self, records: Records, row: int, held: Held) -> None:
        """Make ``held`` what the record at ``row``, which holds nothing, holds."""
        records["overflow"][row] = 0
        entries = np.ascontiguousarray(held.entries)
        self._need(size_for(int(self._segments["room"][row]), len(entries)))
        table, address = Table.of(records), entries.ctypes.data
        fill_overflow(table, self.arena, row, address, len(entries))
        self._segments["purchase"][row] = held.purchase

    def release(self, row: int) -> None:
        """Let go of what a record held that leaves the table."""
        self._segments["room"][row] = 0

    def tidy(self, records: Records) -> None:
        """Give memory back once less than a quarter of the arena is in use."""
        used, room = int(self._free["begin"][0]), self._segments["room"]
        if used < _WORTH_TIDYING:
            return
        rows = np.flatnonzero(room)
        room[rows[records["overflow"][rows] == 0]] = 0
        if 4 * int(room.sum()) > used:
            return
        kept = [(int(row), self.of(records, int(row))) for row in np.flatnonzero(room)]
        entries = int(room.sum())
        self._segments[:] = 0
        self._begin(entries)
        for row, held in kept:
            self.put(records, row, held)
