"""Events of a user that left the ring and are still within the grace: one shared arena of columns.

Each row has a segment of the arena, in which its entries lie oldest first, as in a queue: they come
in at the end as they leave the ring, and leave at the front as the user's latest time moves on. A
row without such events has no segment. How many a row holds is in its record (`overflow`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.history import I64, LINE
from models.kernels.jit import kernel, part
from models.kernels.orders import past_line

if TYPE_CHECKING:
    from models.kernels.columns import Columns

_SMALLEST = 64
"""Entries of the smallest segment; sizes are powers of two."""


class OverflowColumns(NamedTuple):
    """The arena, K entries as one array per field, and where each of R rows has its segment."""

    time: I64
    id: NDArray[np.uint64]
    item: NDArray[np.uint32]
    session_age: NDArray[np.uint32]
    amount: NDArray[np.float32]
    category: NDArray[np.uint16]
    type: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    order: NDArray[np.uint32]
    quantity: NDArray[np.uint32]
    seen: NDArray[np.uint32]
    """[K] Per segment a filter of the ids that were in it: 32 bits an entry."""
    base: I64
    """[R] Where the segment begins."""
    room: I64
    """[R] Entries of the segment; 0: there is none."""
    head: I64
    """[R] Entries before the oldest one."""
    purchase: I64
    """[R] Newest purchase, not late, before the oldest entry, ms; 0: none."""
    free: I64
    """[1] Where the free part of the arena begins."""


@part
def find_overflow(h: Columns, o: OverflowColumns, row: int, event_id: np.uint64) -> int:
    """Place of the entry of this id hash, counted from the oldest; -1 if there is none."""
    count = np.int64(h.overflow[row])
    if count == 0:
        return -1
    base, room = o.base[row], o.room[row]
    word = np.int64(event_id & np.uint64(room - 1))
    bit = np.uint32((event_id >> np.uint64(32)) & np.uint64(31))
    if not (o.seen[base + word] >> bit) & np.uint32(1):
        return -1
    begin = base + o.head[row]
    for place in range(count):
        if o.id[begin + place] == event_id:
            return place
    return -1


@part
def _note_id(o: OverflowColumns, base: int, room: int, event_id: np.uint64) -> None:
    word = np.int64(event_id & np.uint64(room - 1))
    bit = np.uint32((event_id >> np.uint64(32)) & np.uint64(31))
    o.seen[base + word] |= np.uint32(1) << bit


@part
def _move(o: OverflowColumns, source: int, target: int) -> None:
    o.time[target] = o.time[source]
    o.id[target] = o.id[source]
    o.item[target] = o.item[source]
    o.session_age[target] = o.session_age[source]
    o.amount[target] = o.amount[source]
    o.category[target] = o.category[source]
    o.type[target] = o.type[source]
    o.flags[target] = o.flags[source]
    o.order[target] = o.order[source]
    o.quantity[target] = o.quantity[source]


@kernel
def _arena(size: int, base: I64, room: I64, head: I64, purchase: I64, free: I64) -> OverflowColumns:
    return OverflowColumns(
        np.zeros(size, np.int64),
        np.zeros(size, np.uint64),
        np.zeros(size, np.uint32),
        np.zeros(size, np.uint32),
        np.zeros(size, np.float32),
        np.zeros(size, np.uint16),
        np.zeros(size, np.uint8),
        np.zeros(size, np.uint8),
        np.zeros(size, np.uint32),
        np.zeros(size, np.uint32),
        np.zeros(size, np.uint32),
        base,
        room,
        head,
        purchase,
        free,
    )


@kernel
def arena_of(size: int, rows: int) -> OverflowColumns:
    """An arena of ``size`` entries, of which none of ``rows`` rows has any."""
    return _arena(
        size,
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
        np.zeros(1, np.int64),
    )


@kernel
def _grown(o: OverflowColumns, size: int) -> OverflowColumns:
    """The same arena with ``size`` entries."""
    used = o.free[0]
    grown = _arena(size, o.base, o.room, o.head, o.purchase, o.free)
    grown.time[:used] = o.time[:used]
    grown.id[:used] = o.id[:used]
    grown.item[:used] = o.item[:used]
    grown.session_age[:used] = o.session_age[:used]
    grown.amount[:used] = o.amount[:used]
    grown.category[:used] = o.category[:used]
    grown.type[:used] = o.type[:used]
    grown.flags[:used] = o.flags[:used]
    grown.order[:used] = o.order[:used]
    grown.quantity[:used] = o.quantity[:used]
    grown.seen[:used] = o.seen[:used]
    return grown


@kernel
def reserved(o: OverflowColumns, entries: int) -> OverflowColumns:
    """The arena with so many free entries behind those in use."""
    needed = o.free[0] + entries
    return o if needed <= len(o.time) else _grown(o, max(2 * len(o.time), needed))


@kernel
def size_for(o: OverflowColumns, row: int, count: Any) -> Any:
    """Entries of a segment that ``count`` fit into, and as many again; the row's own if it does."""
    size: Any = max(o.room[row], _SMALLEST)
    while size < 2 * count:
        size *= 2
    return size


@kernel
def make_room(h: Columns, o: OverflowColumns, row: int, more: int) -> None:
    """Make room for ``more`` entries behind those of a row; the arena has it (`reserved`)."""
    count, base, room, head = np.int64(h.overflow[row]), o.base[row], o.room[row], o.head[row]
    if head + count + more <= room:
        return
    target, size = base, size_for(o, row, count + more)
    if size > room:
        target = o.free[0]
        o.free[0] = target + size
    for place in range(count):
        _move(o, base + head + place, target + place)
    o.base[row], o.room[row], o.head[row] = target, size, 0
    o.seen[target : target + size] = 0
    for place in range(target, target + count):
        _note_id(o, target, size, o.id[place])


@part
def open_place(h: Columns, o: OverflowColumns, row: int, place: Any) -> Any:
    """Move entries up so that ``place`` is free, and count it; where in the arena it lies.

    There is room for one more (`make_room`).
    """
    count, begin = np.int64(h.overflow[row]), o.base[row] + o.head[row]
    for at in range(begin + count, begin + place, -1):
        _move(o, at - 1, at)
    if count == 0:
        o.purchase[row] = h.evicted_purchase[row]
    h.overflow[row] = np.uint32(count + 1)
    return begin + place


@part
def take_in(h: Columns, o: OverflowColumns, row: int, slot: int) -> None:
    """Put a ring entry behind the others, before it is overwritten and noted as evicted."""
    if o.head[row] + np.int64(h.overflow[row]) >= o.room[row]:
        make_room(h, o, row, 1)
    at = open_place(h, o, row, np.int64(h.overflow[row]))
    o.time[at] = h.ring_time[row, slot]
    o.id[at] = h.ring_id[row, slot]
    o.item[at] = h.ring_item[row, slot]
    o.session_age[at] = h.ring_session_age[row, slot]
    o.amount[at] = h.ring_amount[row, slot]
    o.category[at] = h.ring_category[row, slot]
    o.type[at] = h.ring_type[row, slot]
    o.flags[at] = h.ring_flags[row, slot]
    o.order[at] = h.ring_order[row, slot]
    o.quantity[at] = h.ring_quantity[row, slot]
    _note_id(o, o.base[row], o.room[row], o.id[at])


@kernel
def note_place(o: OverflowColumns, row: int, at: int) -> None:
    """Make the id at a place of the arena known."""
    _note_id(o, o.base[row], o.room[row], o.id[at])


@part
def settle(h: Columns, o: OverflowColumns, row: int, since: int, most: int, gap: int) -> None:
    """Let go of what nothing can come before any more: its orders are past.

    Of the entries older than ``since`` (the latest time less the grace) the newest stays: it is
    what the next one goes on from. ``most``: no more are kept. ``gap``: session gap, ms.
    """
    count, at = np.int64(h.overflow[row]), o.base[row] + o.head[row]
    left = 0
    while left < count and (
        count - left > most or (left + 1 < count and o.time[at + left + 1] < since)
    ):
        o.purchase[row] = _past_entry(h, o, row, at + left, o.purchase[row], gap)
        left += 1
    o.head[row] += left
    h.overflow[row] = np.uint32(count - left)


@kernel
def _past_entry(h: Columns, o: OverflowColumns, row: int, at: int, last: int, gap: int) -> Any:
    """As `past_line`, of an entry of the arena, which may be no line."""
    if not o.flags[at] & LINE:
        return last
    return past_line(
        h,
        row,
        last,
        gap,
        o.time[at],
        o.type[at],
        o.order[at],
        o.item[at],
        o.amount[at],
        o.quantity[at],
        o.flags[at],
    )


@kernel
def end_overflow(h: Columns, o: OverflowColumns, row: int, gap: int) -> None:
    """Let go of all entries of a row that has some; its orders are past."""
    begin, last = o.base[row] + o.head[row], o.purchase[row]
    for at in range(begin, begin + np.int64(h.overflow[row])):
        last = _past_entry(h, o, row, at, last, gap)
    drop_overflow(h, o, row)


@kernel
def drop_overflow(h: Columns, o: OverflowColumns, row: int) -> None:
    """Forget all entries of a row that has some."""
    base, room = o.base[row], o.room[row]
    o.seen[base : base + room] = 0
    o.head[row], o.purchase[row] = 0, 0
    h.overflow[row] = np.uint32(0)


@kernel
def fill_overflow(
    h: Columns, o: OverflowColumns, row: int, fields: Any, purchase: int
) -> OverflowColumns:
    """Put entries, one array per field as in ``ENTRY``, into a row that has none; the arena."""
    time, event_id, item, session_age, amount, category, kind, flags, order, quantity = fields
    count = len(time)
    o.head[row] = 0
    o = reserved(o, size_for(o, row, count))
    make_room(h, o, row, count)
    base = o.base[row]
    for i in range(count):
        at = base + i
        o.time[at], o.id[at], o.item[at], o.session_age[at] = (
            time[i],
            event_id[i],
            item[i],
            session_age[i],
        )
        o.amount[at], o.category[at], o.type[at], o.flags[at] = (
            amount[i],
            category[i],
            kind[i],
            flags[i],
        )
        o.order[at], o.quantity[at] = order[i], quantity[i]
        note_place(o, row, at)
    h.overflow[row], o.purchase[row] = np.uint32(count), purchase
    return o
