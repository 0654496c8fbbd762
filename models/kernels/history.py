"""Events of many users, in order of arrival, into their histories: one pass, one event at a time.

The same rules as ``models/inputs/apply.py`` (in order) and ``models/inputs/insertion.py`` (out of
order), which say them in NumPy; tests compare the two bit for bit. Integers only: what features
make of them is ``models/inputs/features.py``. What states are made of is laid out behind the pass
(``models/kernels/states.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.history import DISCOUNTED, LINE, ON_TIME, RETIMED, STARTS_KEPT, TYPE_SLOTS
from models.kernels.columns import After, Taken, new_inputs, room
from models.kernels.jit import kernel
from models.kernels.ledger import late_code
from models.kernels.one_event import (
    append,
    clear,
    counts_late,
    has_place,
    in_front,
    insert,
    is_newest,
)
from models.kernels.orders import fill_entry
from models.kernels.places import Table, history, new_entry
from models.kernels.recent import RECENT_FEATURES, fill_recent
from models.kernels.repeats import differing, find
from models.kernels.states import (
    ALL,
    NEWEST,
    ONE,
    Ways,
    is_whole,
    keep_window,
    keeps_all,
    laid_out,
    laid_windows,
    newest_inputs,
)
from models.steps import NOTHING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64, Records
    from models.kernels.columns import EventColumns, Limits
    from models.kernels.places import Arena

ACCEPTED, REPLAYED, DUPLICATE, LATE, REUSED = 0, 1, 2, 3, 4
"""Verdicts. Reused: an event of that id is held, and it is another one."""


class Beyond(Protocol):
    """What histories hold beyond their rings (`models.overflow.Overflow`)."""

    @property
    def arena(self) -> Arena:
        """Where it lies, until it grows."""

    def reserve(self, table: Table, rows: I64, newest: I64, limits: Limits) -> None:
        """Make room for all that events of ``rows``, one each, may leave beyond the rings."""


def take_events(
    records: Records,
    overflow: Beyond,
    source_offset: I64,
    rows: I64,
    offsets: I64,
    events: EventColumns,
    limits: Limits,
    newest: I64,
    every: NDArray[np.bool_],
) -> Taken:
    """Judge N events in order of arrival and apply the A accepted ones in place.

    Args:
        records: the histories.
        overflow: what they hold beyond their rings.
        source_offset: per record the last source offset applied; moved on.
        rows: record of each event.
        offsets: source offset of each event, rising.
        events: the events.
        limits: the rules.
        newest: 0 per record, before and after the call: space to work in.
        every: per event whether a state is wanted whatever comes after it; the same for all of a
            record. Otherwise one is wanted of the record's last accepted event only.
    """
    table = Table.of(records)
    overflow.reserve(table, rows, newest, limits)
    return _take_events(
        table, overflow.arena, source_offset, rows, offsets, events, limits, newest, every
    )


@kernel
def _take_events(
    table: Table,
    arena: Arena,
    source_offset: I64,
    rows: I64,
    offsets: I64,
    events: EventColumns,
    limits: Limits,
    newest: I64,
    every: NDArray[np.bool_],
) -> Taken:
    """As `take_events`; the arena has room for all that may leave the rings."""
    count = len(rows)
    length = min(limits.rebuilt, table.size)
    verdicts = np.zeros(count, np.uint8)
    late_by = np.zeros(count, np.int64)
    differs = np.zeros(count, np.uint8)
    accepted = np.empty(count, np.int64)
    forgotten = np.zeros(count, np.bool_)
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
        np.empty(count, np.int64),
        np.empty(count, np.int64),
    )
    ways = Ways(
        np.empty(count, np.uint8),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
    )
    kept, used = new_inputs(0), 0
    span, seen = min(limits.shown, table.size), 0
    shown = np.empty(count, np.int64)
    windows = new_inputs(0)
    recent = np.empty((count, len(RECENT_FEATURES)), np.float32)
    starts = np.empty(2 * STARTS_KEPT, np.uint32)
    event = new_entry()
    a = 0  # newest[row] - 1 is the row's last accepted event, -1 (STORED) for none
    for i in range(count):
        row = rows[i]
        if offsets[i] <= source_offset[row]:
            verdicts[i] = REPLAYED
            continue
        u = history(table, arena, row)
        h = u.head
        fill_entry(event, events, i)
        fresh = False
        if h.n > 0 and limits.ttl > 0 and event.time - h.last_time > limits.ttl:
            clear(u)
            fresh = True
        last = h.last_time
        where = find(u, event.id)
        if where >= 0:
            differs[i] = differing(u, where, event, events.moved[i])
            verdicts[i] = REUSED if differs[i] else DUPLICATE
            continue
        if (
            last - limits.grace > event.time >= last - limits.correction
            and h.n > 0
            and event.flags & LINE
            and not events.moved[i] & ON_TIME
            and not in_front(u, event)
        ):
            event.time = last
            event.flags = np.uint8((event.flags & DISCOUNTED) | LINE | RETIMED)
            event.order = late_code(event.order, events.time[i])
        before = np.int64(NOTHING) if fresh else newest[row] - 1
        if is_newest(u, event):
            way = ONE if limits.recurrent else NEWEST
            if limits.recurrent and before >= 0 and ways.way[before] >= ALL:
                # What the state before is made of is not laid out yet. It is with this one, as long
                # as it stays; else now.
                if ways.way[before] == ALL and keeps_all(u, event.time, limits):
                    way, before = ALL, np.int64(NOTHING)
                else:
                    kept, used = keep_window(u, ways, before, length, kept, used)
            ways.gap[a] = append(u, event, events.amount[i], limits)
        elif (
            event.time < last - limits.grace
            and not counts_late(u, event, events.moved[i], limits.grace)
        ) or not has_place(u, event, limits.most):
            verdicts[i] = LATE
            late_by[i] = last - events.time[i]
            continue
        else:
            insert(u, event, events.amount[i], limits)
            before = np.int64(NOTHING)
            way = ALL if limits.recurrent and is_whole(u) else NEWEST
        ways.way[a] = way
        ways.before[a] = before if limits.recurrent else np.int64(NOTHING)
        ways.place[a] = event.session_age
        if every[i] and way != ONE:
            kept, used = keep_window(u, ways, a, length, kept, used)
        if span > 0 and every[i]:
            windows, shown[a] = room(windows, seen, span), seen
            seen = newest_inputs(u, span, windows, seen)
        if every[i]:
            fill_recent(u, limits.gap, h.last_time, starts, recent, a)
        source_offset[row] = offsets[i]
        accepted[a] = i
        forgotten[a] = fresh
        newest[row] = a + 1
        after.n[a] = h.n
        for kind in range(TYPE_SLOTS):
            after.counts[a, kind] = h.counts[kind]
        after.spend[a] = h.spend
        after.refunded[a] = h.refunded
        after.discount[a] = h.discount
        after.orders[a] = h.orders
        after.sessions[a] = h.sessions
        after.first_time[a] = h.first_time
        after.last_time[a] = h.last_time
        after.session_start[a] = h.session_start
        after.first_purchase[a] = h.first_purchase
        after.last_purchase[a] = h.last_purchase
        after.last_order[a] = h.last_order
        a += 1
    scored, latest, before_scored, start, inputs, total = laid_out(
        table, arena, rows, events, accepted[:a], after, ways, every, newest, kept, length
    )
    begin, windows, seen = laid_windows(
        table, arena, rows, accepted, after, scored, every, shown, windows, span
    )
    for e in range(len(scored)):
        k = scored[e]
        if every[accepted[k]]:
            recent[e] = recent[k]  # e <= k: none is overwritten that is still wanted
        else:
            u = history(table, arena, rows[accepted[k]])
            fill_recent(u, limits.gap, u.head.last_time, starts, recent, e)
    for i in range(count):
        newest[rows[i]] = 0
    return Taken(
        verdicts,
        late_by,
        differs,
        accepted[:a],
        forgotten[:a],
        after,
        scored,
        latest,
        before_scored,
        recent[: len(scored)],
        start,
        inputs,
        total,
        begin,
        windows,
        seen,
    )
