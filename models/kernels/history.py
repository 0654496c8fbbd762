"""Events of many users, in order of arrival, into their histories: one pass, one event at a time.

The same rules as ``models/inputs/apply.py`` (in order) and ``models/inputs/insertion.py`` (out of
order), which say them in NumPy; tests compare the two bit for bit. Integers only: what features
make of them is ``models/inputs/features.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.history import ON_TIME, RETIMED, TYPE_SLOTS
from models.kernels.columns import After, EventColumns, new_inputs, room
from models.kernels.held import arena_place, held_from
from models.kernels.jit import kernel
from models.kernels.ledger import UNIT, is_line, late_code
from models.kernels.one_event import (
    append,
    clear,
    counts_late,
    has_place,
    in_front,
    insert,
)
from models.kernels.overflow import make_room, reserved, size_for
from models.kernels.repeats import differing, find
from models.kernels.sequence import comes_after
from models.steps import NOTHING

if TYPE_CHECKING:
    from models.history import I64
    from models.kernels.columns import Columns, Inputs, Limits
    from models.kernels.overflow import OverflowColumns

ACCEPTED, REPLAYED, DUPLICATE, LATE, REUSED = 0, 1, 2, 3, 4
"""Verdicts. Reused: an event of that id is held, and it is another one."""
WHOLE = 1024
"""A recurrent state that an event out of order unsettles is made again of the whole history, where
that is held one by one and has at most so many events; else of its newest part."""


@kernel
def _newest_inputs(
    h: Columns, o: OverflowColumns, row: int, length: int, inputs: Inputs, used: int
) -> int:
    """The newest ``length`` events as inputs behind the ``used`` ones; how many are used then."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    oldest = held_from(h, row)
    first: Any = max(n - length, oldest)
    for rank in range(first, n):
        place, slot = arena_place(h, o, row, rank), rank % size
        if place < 0:
            time = h.ring_time[row, slot]
            inputs.session_age[used] = h.ring_session_age[row, slot]
            inputs.amount[used] = h.ring_amount[row, slot]
            inputs.item[used] = h.ring_item[row, slot]
            inputs.category[used] = h.ring_category[row, slot]
            inputs.type[used] = h.ring_type[row, slot]
        else:
            time = o.time[place]
            inputs.session_age[used] = o.session_age[place]
            inputs.amount[used] = o.amount[place]
            inputs.item[used] = o.item[place]
            inputs.category[used] = o.category[place]
            inputs.type[used] = o.type[place]
        if rank == 0:
            gap = 0
        elif rank == n - size or rank == oldest:
            gap = time - h.evicted_time[row]
        elif place < 0:
            gap = time - h.ring_time[row, (rank - 1) % size]
        else:
            gap = time - o.time[place - 1]
        inputs.time[used] = time
        inputs.gap[used] = gap
        inputs.first[used] = rank == 0
        used += 1
    return used


@kernel
def _note(h: Columns, row: int, after: After, a: int) -> None:
    after.n[a] = h.n[row]
    for kind in range(TYPE_SLOTS):
        after.counts[a, kind] = h.counts[row, kind]
    after.spend[a] = h.spend[row]
    after.orders[a] = h.orders[row]
    after.sessions[a] = h.sessions[row]
    after.first_time[a] = h.first_time[row]
    after.last_time[a] = h.last_time[row]
    after.session_start[a] = h.session_start[row]
    after.first_purchase[a] = h.first_purchase[row]
    after.last_purchase[a] = h.last_purchase[row]
    after.last_order[a] = h.last_order[row]


@kernel
def _may_overflow(h: Columns, row: int, more: int, limits: Limits) -> bool:
    """Whether ``more`` events may leave some beyond the ring of a record."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    if n + more <= size or h.overflow[row] or more >= size:
        return bool(n + more > size)
    # The oldest event that can be left in the ring when all are in.
    oldest = h.ring_time[row, (n + more - size) % size]
    return bool(oldest >= h.last_time[row] - limits.grace)


@kernel
def _with_segments(
    h: Columns, o: OverflowColumns, rows: I64, newest: I64, limits: Limits
) -> OverflowColumns:
    """The arena, with a segment for all that events of ``rows`` may leave beyond the rings.

    It grows before the first event: an arena that is handed on anew with each event costs more than
    all else that is done of one. ``newest`` is 0 per record, before and after.
    """
    needed = 0
    for i in range(len(rows)):
        newest[rows[i]] += 1
    for i in range(len(rows)):
        row = rows[i]
        more = newest[row]
        if more > 0 and _may_overflow(h, row, more, limits):
            size = size_for(o, row, min(np.int64(h.overflow[row]) + more, limits.most + 1))
            needed += size if size > o.room[row] else 0
            newest[row] = -more  # once
    o = reserved(o, needed)
    for i in range(len(rows)):
        row = rows[i]
        if newest[row] < 0:
            count = np.int64(h.overflow[row])
            make_room(h, o, row, min(count - newest[row], limits.most + 1) - count)
        newest[row] = 0
    return o


@kernel
def take_events(
    h: Columns,
    o: OverflowColumns,
    source_offset: I64,
    rows: I64,
    offsets: I64,
    events: EventColumns,
    limits: Limits,
    newest: I64,
) -> Any:
    """Judge N events in order of arrival and apply the A accepted ones in place.

    Args:
        h: the histories.
        o: what they hold beyond their rings; changed in place unless it has to grow.
        source_offset: per record the last source offset applied; moved on.
        rows: record of each event.
        offsets: source offset of each event, rising.
        events: the events.
        limits: the rules.
        newest: 0 per record, before and after the call: space to work in.

    Returns:
        (verdicts_N, late_by_N, accepted_A, before_A, forgotten_A, start_A, after, inputs, M,
        shown_A, windows, W, overflow): ``before`` and ``start`` as in ``Steps``; ``forgotten``: the
        event came after the time to live and its history begins with it; the first M of ``inputs``
        count. ``shown`` is where in ``windows`` the newest events up to each one begin, W of them
        in all; 0 where none are wanted. ``overflow`` takes the place of ``o``. differs_N is last:
        of each reused id the fields that differ (`differing`).
    """
    count, size = len(rows), h.ring_time.shape[1]
    wanted = limits.rebuilt > 0
    length = min(limits.rebuilt, size)
    verdicts = np.zeros(count, np.uint8)
    late_by = np.zeros(count, np.int64)
    differs = np.zeros(count, np.uint8)
    accepted = np.empty(count, np.int64)
    before = np.empty(count, np.int64)
    forgotten = np.zeros(count, np.bool_)
    start = np.empty(count, np.int64)
    after = After(
        np.empty(count, np.int64),
        np.empty((count, TYPE_SLOTS), np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
    )
    inputs = new_inputs(count + length)
    span, seen = min(limits.shown, size), 0
    shown = np.zeros(count, np.int64)
    windows = new_inputs(count * span)
    own, times, moved = events.time, events.time.copy(), events.moved.copy()
    codes = events.order.copy()
    events = EventColumns(
        times,
        events.id,
        events.type,
        events.item,
        events.category,
        events.amount,
        codes,
        events.quantity,
        moved,
    )
    o = _with_segments(h, o, rows, newest, limits)
    a = used = 0  # newest[row] - 1 is the row's last accepted event, -1 (STORED) for none
    for i in range(count):
        row, time, event_id = rows[i], events.time[i], events.id[i]
        if offsets[i] <= source_offset[row]:
            verdicts[i] = REPLAYED
            continue
        fresh = False
        if h.n[row] > 0 and limits.ttl > 0 and time - h.last_time[row] > limits.ttl:
            clear(h, o, row)
            fresh = True
        last = h.last_time[row]
        where = find(h, o, row, event_id)
        if where >= 0:
            differs[i] = differing(h, o, row, where, events, i)
            verdicts[i] = REUSED if differs[i] else DUPLICATE
            continue
        if (
            last - limits.grace > time >= last - limits.correction
            and h.n[row] > 0
            and is_line(events.type[i])
            and not moved[i] & ON_TIME
            and not in_front(h, row, time, events.type[i], event_id)
        ):
            time = times[i] = last
            moved[i], codes[i] = RETIMED, late_code(codes[i], own[i])
        inputs = room(inputs, used, length + 1)
        start[a] = used
        behind: Any = h.n[row] == 0 or time > last
        if time == last and not behind:
            what = h.ring_type[row, (np.int64(h.n[row]) - 1) % size]
            behind = comes_after(events.type[i], event_id, what, h.last_id[row])
        if behind:
            gap, age = append(h, o, row, events, i, limits)
            before[a] = NOTHING if fresh or not limits.recurrent else newest[row] - 1
            if wanted and not limits.recurrent:
                used = _newest_inputs(h, o, row, length, inputs, used)
            elif wanted:
                inputs.time[used] = time
                inputs.gap[used] = gap
                inputs.session_age[used] = age
                inputs.amount[used] = np.float32(events.amount[i] / UNIT)
                inputs.item[used] = events.item[i]
                inputs.category[used] = events.category[i]
                inputs.type[used] = events.type[i]
                inputs.first[used] = h.n[row] == 1
                used += 1
        elif (
            time < last - limits.grace
            and not counts_late(h, row, time, events.type[i], event_id, moved[i], limits.grace)
        ) or not has_place(h, o, row, time, events.type[i], event_id, limits.most):
            verdicts[i] = LATE
            late_by[i] = last - own[i]
            continue
        else:
            insert(h, o, row, events, i, limits)
            before[a] = NOTHING
            if wanted:
                window, known = length, np.int64(h.n[row])
                if limits.recurrent and known <= WHOLE and held_from(h, row) == 0:
                    window = max(length, known)  # as if all had come in order
                inputs = room(inputs, used, window)
                used = _newest_inputs(h, o, row, window, inputs, used)
        if span > 0:
            shown[a] = seen
            seen = _newest_inputs(h, o, row, span, windows, seen)
        source_offset[row] = offsets[i]
        accepted[a] = i
        forgotten[a] = fresh
        newest[row] = a + 1
        _note(h, row, after, a)
        a += 1
    for i in range(count):
        newest[rows[i]] = 0
    return (
        verdicts,
        late_by,
        accepted[:a],
        before[:a],
        forgotten[:a],
        start[:a],
        after,
        inputs,
        used,
        shown[:a],
        windows,
        seen,
        o,
        differs,
    )
