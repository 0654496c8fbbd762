"""Events of a user that left the ring and are still within the grace: one shared arena of entries.

Each row has a segment of the arena, in which its entries lie oldest first, as in a queue: they come
in at the end as they leave the ring, and leave at the front as the user's latest time moves on. A
row without such events has no segment. How many a row holds is in its record (`overflow`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.history import ENTRY, LINE
from models.kernels.jit import kernel
from models.kernels.orders import past_line
from models.kernels.places import (
    FILTER,
    copy_entry,
    entry_at,
    filter_at,
    free_at,
    history,
    in_arena,
    in_slot,
    move_entries,
)

if TYPE_CHECKING:
    from models.history import I64
    from models.kernels.columns import Limits
    from models.kernels.places import Arena, History, Table

_SMALLEST = 64
"""Entries of the smallest segment; sizes are powers of two."""
_ENTRY_BYTES = ENTRY.itemsize
_FILTER_BYTES = FILTER.itemsize


@kernel
def find_overflow(u: History, event_id: np.uint64) -> int:
    """Place of the entry of this id hash, counted from the oldest; -1 if there is none."""
    count, s = np.int64(u.head.overflow), u.segment
    if count == 0:
        return -1
    word = np.int64(event_id & np.uint64(s.room - 1))
    bit = np.uint32((event_id >> np.uint64(32)) & np.uint64(31))
    if not (filter_at(u.seen + (s.base + word) * _FILTER_BYTES).bits >> bit) & np.uint32(1):
        return -1
    begin = s.base + s.head
    for place in range(count):
        if in_arena(u, begin + place).id == event_id:
            return place
    return -1


@kernel
def note_id(u: History, event_id: np.uint64) -> None:
    """Make an id known that the row's segment has."""
    s = u.segment
    word = np.int64(event_id & np.uint64(s.room - 1))
    bit = np.uint32((event_id >> np.uint64(32)) & np.uint64(31))
    noted = filter_at(u.seen + (s.base + word) * _FILTER_BYTES)
    noted.bits = noted.bits | (np.uint32(1) << bit)


@kernel
def _forget_ids(u: History) -> None:
    s = u.segment
    for place in range(s.base, s.base + s.room):
        filter_at(u.seen + place * _FILTER_BYTES).bits = np.uint32(0)


@kernel
def _move(u: History, source: Any, target: Any, count: Any) -> None:
    to, begin = u.entries + target * _ENTRY_BYTES, u.entries + source * _ENTRY_BYTES
    move_entries(to, begin, count)


@kernel
def size_for(room: Any, count: Any) -> Any:
    """Entries of a segment that ``count`` fit into, and as many again; ``room`` if it does."""
    size: Any = max(room, _SMALLEST)
    while size < 2 * count:
        size *= 2
    return size


@kernel
def make_room(u: History, more: Any) -> None:
    """Make room for ``more`` entries behind those of a row; the arena has it (`reserve`)."""
    s, count = u.segment, np.int64(u.head.overflow)
    if s.head + count + more <= s.room:
        return
    base, head = s.base, s.head
    size = size_for(s.room, count + more)
    if size > s.room:
        free = free_at(u.free)
        s.base, s.room = free.begin, size
        free.begin += size
    s.head = 0
    _move(u, base + head, s.base, count)
    _forget_ids(u)
    for place in range(s.base, s.base + count):
        note_id(u, in_arena(u, place).id)


@kernel
def open_place(u: History, place: Any) -> Any:
    """Move entries up so that ``place`` is free, and count it; where in the arena it lies.

    There is room for one more (`make_room`).
    """
    h, s = u.head, u.segment
    count, begin = np.int64(h.overflow), s.base + s.head
    if place < count:
        _move(u, begin + place, begin + place + 1, count - place)
    if count == 0:
        s.purchase = h.evicted_purchase
    h.overflow = np.uint32(count + 1)
    return begin + place


@kernel
def take_in(u: History, slot: Any) -> None:
    """Put a ring entry behind the others, before it is overwritten and noted as evicted."""
    make_room(u, 1)
    entry = in_slot(u, slot)
    copy_entry(in_arena(u, open_place(u, np.int64(u.head.overflow))), entry)
    note_id(u, entry.id)


@kernel
def settle(u: History, since: int, most: int, gap: int) -> None:
    """Let go of what nothing can come before any more: its orders are past.

    Of the entries older than ``since`` (the latest time less the grace) the newest stays: it is
    what the next one goes on from. ``most``: no more are kept. ``gap``: session gap, ms.
    """
    h, s = u.head, u.segment
    count, at = np.int64(h.overflow), s.base + s.head
    left = 0
    while left < count and (
        count - left > most or (left + 1 < count and in_arena(u, at + left + 1).time < since)
    ):
        s.purchase = past_entry(u, in_arena(u, at + left), s.purchase, gap)
        left += 1
    s.head += left
    h.overflow = np.uint32(count - left)


@kernel
def past_entry(u: History, entry: Any, last: Any, gap: int) -> Any:
    """As `past_line`, of an entry that may be no line."""
    return past_line(u.head, last, gap, entry) if entry.flags & LINE else last


@kernel
def end_overflow(u: History, gap: int) -> None:
    """Let go of all entries of a row that has some; its orders are past."""
    s = u.segment
    begin, last = s.base + s.head, s.purchase
    for at in range(begin, begin + np.int64(u.head.overflow)):
        last = past_entry(u, in_arena(u, at), last, gap)
    drop_overflow(u)


@kernel
def drop_overflow(u: History) -> None:
    """Forget all entries of a row that has some."""
    _forget_ids(u)
    u.segment.head, u.segment.purchase = 0, 0
    u.head.overflow = np.uint32(0)


@kernel
def fill_overflow(table: Table, arena: Arena, row: int, source: int, count: int) -> None:
    """Put ``count`` entries, which lie at an address, into a row that has none.

    The arena has room for them (`size_for`).
    """
    u = history(table, arena, row)
    u.segment.head = 0
    make_room(u, count)
    for i in range(count):
        entry = entry_at(source + i * _ENTRY_BYTES)
        copy_entry(in_arena(u, u.segment.base + i), entry)
        note_id(u, entry.id)
    u.head.overflow = np.uint32(count)


@kernel
def _may_overflow(u: History, more: Any, grace: int) -> bool:
    """Whether ``more`` events may leave some beyond the ring of a record."""
    h = u.head
    n = np.int64(h.n)
    if n + more <= u.size or h.overflow or more >= u.size:
        return bool(n + more > u.size)
    # The oldest event that can be left in the ring when all are in.
    oldest = in_slot(u, (n + more - u.size) % u.size).time
    return bool(oldest >= h.last_time - grace)


@kernel
def reserve(table: Table, arena: Arena, rows: I64, newest: I64, limits: Limits) -> int:
    """Give all that events of ``rows`` may leave beyond the rings a segment with room for it.

    ``newest`` is 0 per record, before and after. If the arena is too small, nothing is done.

    Returns:
        Free entries that it takes; the arena has to have as many.
    """
    needed = 0
    for i in range(len(rows)):
        newest[rows[i]] += 1
    for i in range(len(rows)):
        row = rows[i]
        more = newest[row]
        if more > 0:
            newest[row] = 0
            u = history(table, arena, row)
            if _may_overflow(u, more, limits.grace):
                room = u.segment.room
                size = size_for(room, min(np.int64(u.head.overflow) + more, limits.most + 1))
                needed += size if size > room else 0
                newest[row] = -more
    enough = free_at(arena.free).begin + needed <= arena.size
    for i in range(len(rows)):
        row = rows[i]
        if newest[row] < 0 and enough:
            u = history(table, arena, row)
            count = np.int64(u.head.overflow)
            make_room(u, min(count - newest[row], limits.most + 1) - count)
        newest[row] = 0
    return needed
