"""One event into the history of its user, in order or not.

The rules are those of ``models/inputs/apply.py`` and ``models/inputs/insertion.py``, which say them
in NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.history import (
    HISTORY,
    LINE,
    ON_TIME,
    ORDER_START,
    PURCHASE,
    REFUND,
    RETIMED,
    SESSION_START,
)
from models.kernels.held import arena_place, follow_held, follow_newest, held_from, time_type
from models.kernels.jit import kernel, part
from models.kernels.ledger import UNIT, is_late, is_line, newest_of
from models.kernels.orders import past_slot
from models.kernels.overflow import (
    drop_overflow,
    end_overflow,
    make_room,
    note_place,
    open_place,
    settle,
    take_in,
)
from models.kernels.sequence import comes_after

if TYPE_CHECKING:
    from models.kernels.columns import Columns, EventColumns, Limits
    from models.kernels.overflow import OverflowColumns


_CAME: Final = RETIMED | HISTORY
"""Flags that say how an event came."""


@kernel
def clear(h: Columns, o: OverflowColumns, row: int) -> None:
    """A history without events."""
    if h.overflow[row]:
        drop_overflow(h, o, row)
    h.first_time[row] = 0
    h.last_time[row] = 0
    h.last_id[row] = 0
    h.session_start[row] = 0
    h.first_purchase[row] = 0
    h.last_purchase[row] = 0
    h.evicted_time[row] = 0
    h.evicted_purchase[row] = 0
    h.last_order[row] = 0
    h.past_order[row] = 0
    h.past_orders[row] = 0
    h.spend[row] = 0
    h.counts[row] = 0
    h.n[row] = 0
    h.orders[row] = 0
    h.sessions[row] = 0
    h.past_code[row] = 0
    h.past_units[row] = 0
    h.past_amount[row] = 0
    h.past_items[row] = 0
    h.ring_time[row] = 0
    h.ring_id[row] = 0
    h.ring_item[row] = 0
    h.ring_session_age[row] = 0
    h.ring_amount[row] = 0
    h.ring_category[row] = 0
    h.ring_type[row] = 0
    h.ring_flags[row] = 0
    h.ring_order[row] = 0
    h.ring_quantity[row] = 0


@part
def _count(h: Columns, row: int, kind: Any, amount: int) -> None:
    h.n[row] += np.uint32(1)
    h.counts[row, kind] += np.uint32(1)
    if kind == PURCHASE:
        h.spend[row] += amount
    elif kind == REFUND:
        h.spend[row] -= amount


@part
def append(
    h: Columns, o: OverflowColumns, row: int, events: EventColumns, i: int, limits: Limits
) -> tuple[int, int]:
    """One event behind all others of its user: (gap, session age), ms."""
    time, kind = events.time[i], np.int64(events.type[i])
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    gap = 0 if n == 0 else time - h.last_time[row]
    session, flags = h.session_start[row], 0
    if n == 0 or gap > limits.gap or time - session > limits.longest:
        session, flags = time, SESSION_START
        h.sessions[row] += np.uint32(1)
    if n == 0:
        h.first_time[row] = time
    if is_line(kind):
        flags |= LINE
        begins, change = follow_newest(h, o, row, events, i, limits)
        if begins:
            flags |= ORDER_START
            h.last_order[row] = time
        h.orders[row] = np.uint32(np.int64(h.orders[row]) + change)
    if kind == PURCHASE:
        if h.last_purchase[row] == 0:
            h.first_purchase[row] = time
        h.last_purchase[row] = time
    slot = n % size
    if n >= size:
        oldest = h.ring_time[row, (n + 1) % size] if size > 1 else time
        _evict(h, o, row, slot, oldest, time, limits)
    _write(h, row, slot, events, i)
    h.ring_session_age[row, slot] = time - session
    h.ring_flags[row, slot] = flags | (events.moved[i] & _CAME)
    _count(h, row, kind, events.amount[i])
    h.last_time[row], h.last_id[row] = time, events.id[i]
    h.session_start[row] = session
    return gap, time - session


@part
def _evict(
    h: Columns, o: OverflowColumns, row: int, slot: int, oldest: int, last: int, limits: Limits
) -> None:
    """A ring entry leaves; ``oldest``, ``last``: times of the ring's oldest and newest entry then.

    While a whole ring lies within the grace, events may still come before it: what left it is kept.
    """
    since = last - limits.grace
    if oldest >= since:
        take_in(h, o, row, slot)
        settle(h, o, row, since, limits.most, limits.gap)
    else:
        if h.overflow[row]:
            end_overflow(h, o, row, limits.gap)
        past_slot(h, row, slot, h.evicted_purchase[row], limits.gap)
    h.evicted_time[row] = h.ring_time[row, slot]
    if h.ring_type[row, slot] == PURCHASE and not is_late(h.ring_order[row, slot]):
        h.evicted_purchase[row] = h.ring_time[row, slot]


@part
def _write(h: Columns, row: int, slot: int, events: EventColumns, i: int) -> None:
    h.ring_time[row, slot] = events.time[i]
    h.ring_id[row, slot] = events.id[i]
    h.ring_item[row, slot] = events.item[i]
    h.ring_amount[row, slot] = np.float32(events.amount[i] / UNIT)
    h.ring_category[row, slot] = events.category[i]
    h.ring_type[row, slot] = events.type[i]
    line = is_line(events.type[i])
    h.ring_order[row, slot] = events.order[i] if line else np.uint32(0)
    h.ring_quantity[row, slot] = events.quantity[i] if line else np.uint32(0)


@kernel
def in_front(h: Columns, row: int, time: int, kind: Any, event_id: np.uint64) -> Any:
    """Whether an event belongs before all of a full ring."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    if n < size:
        return False
    slot = n % size
    oldest = h.ring_time[row, slot]
    if time != oldest:
        return time < oldest
    return comes_after(h.ring_type[row, slot], h.ring_id[row, slot], kind, event_id)


@kernel
def has_place(
    h: Columns, o: OverflowColumns, row: int, time: int, kind: Any, event_id: np.uint64, most: int
) -> Any:
    """Whether all events after this one are held one by one, at most ``most`` beyond the ring."""
    if not in_front(h, row, time, kind, event_id):
        return True
    count = np.int64(h.overflow[row])
    if h.n[row] == h.ring_time.shape[1] + count and count < most:
        return True
    if count == 0:
        return False
    at = o.base[row] + o.head[row]
    if time != o.time[at]:
        return time > o.time[at]
    return comes_after(kind, event_id, o.type[at], o.id[at])


@kernel
def counts_late(
    h: Columns, row: int, time: int, kind: Any, event_id: np.uint64, mark: int, grace: int
) -> Any:
    """Whether an event counts that is older than its user's latest by more than the grace.

    It does if it is on time by all others' clocks, or history and no newer history is that much
    later; and if it belongs into the ring: then nothing that has left the ring comes after it, and
    a repeat of it is recognised.
    """
    if not mark & (HISTORY | ON_TIME) or in_front(h, row, time, kind, event_id):
        return False
    if mark & ON_TIME:
        return True
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    for rank in range(n - 1, max(n - size, 0) - 1, -1):
        if h.ring_flags[row, rank % size] & HISTORY:
            return time >= h.ring_time[row, rank % size] - grace
    return True


@kernel
def insert(
    h: Columns, o: OverflowColumns, row: int, events: EventColumns, i: int, limits: Limits
) -> None:
    """One event where it belongs, before later ones; it has a place."""
    time, kind = events.time[i], np.int64(events.type[i])
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    if in_front(h, row, time, kind, events.id[i]):
        at = _insert_overflow(h, o, row, events, i)
    else:
        at = _insert_ring(h, o, row, events, i, limits)
    _count(h, row, kind, events.amount[i])
    _repair(h, o, row, at, limits)
    if is_line(kind):
        follow_held(h, o, row, limits)
    if h.overflow[row]:
        settle(h, o, row, h.last_time[row] - limits.grace, limits.most, limits.gap)
    h.first_time[row] = min(h.first_time[row], time)
    if kind == PURCHASE:
        first = h.first_purchase[row]
        h.first_purchase[row] = time if first == 0 else min(first, time)
        h.last_purchase[row] = max(h.last_purchase[row], time)
    newest = n % size
    h.last_time[row], h.last_id[row] = h.ring_time[row, newest], h.ring_id[row, newest]
    h.session_start[row] = h.ring_time[row, newest] - np.int64(h.ring_session_age[row, newest])


@kernel
def _insert_ring(
    h: Columns, o: OverflowColumns, row: int, events: EventColumns, i: int, limits: Limits
) -> Any:
    """Write an event where it belongs in the ring; its rank."""
    time, kind, event_id = events.time[i], events.type[i], events.id[i]
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    oldest = max(n - size, 0)
    at = n
    while at > oldest:
        slot = (at - 1) % size
        other, what = h.ring_time[row, slot], h.ring_type[row, slot]
        if other < time:
            break
        if other == time and comes_after(kind, event_id, what, h.ring_id[row, slot]):
            break
        at -= 1
    if n >= size:
        first = time if at == oldest + 1 else h.ring_time[row, (n + 1) % size]
        _evict(h, o, row, n % size, first, h.last_time[row], limits)
    for rank in range(n - 1, at - 1, -1):
        _copy_slot(h, row, rank % size, (rank + 1) % size)
    _write(h, row, at % size, events, i)
    line = LINE if is_line(events.type[i]) else 0
    h.ring_flags[row, at % size] = line | (events.moved[i] & _CAME)
    return at


@kernel
def _insert_overflow(h: Columns, o: OverflowColumns, row: int, events: EventColumns, i: int) -> Any:
    """Write an event where it belongs before the ring; its rank."""
    time, kind, event_id = events.time[i], events.type[i], events.id[i]
    n, size, count = np.int64(h.n[row]), h.ring_time.shape[1], np.int64(h.overflow[row])
    make_room(h, o, row, 1)
    begin, place = o.base[row] + o.head[row], count
    while place > 0:
        before = begin + place - 1
        if o.time[before] < time:
            break
        if o.time[before] == time and comes_after(kind, event_id, o.type[before], o.id[before]):
            break
        place -= 1
    at = open_place(h, o, row, place)
    o.time[at], o.id[at], o.item[at] = time, event_id, events.item[i]
    o.amount[at] = np.float32(events.amount[i] / UNIT)
    line = is_line(kind)
    o.category[at], o.type[at] = events.category[i], kind
    o.flags[at] = (LINE if line else 0) | (events.moved[i] & _CAME)
    o.order[at] = events.order[i] if line else np.uint32(0)
    o.quantity[at] = events.quantity[i] if line else np.uint32(0)
    note_place(o, row, at)
    if place == count:
        h.evicted_time[row] = time
    last = h.evicted_purchase[row]
    h.evicted_purchase[row] = max(last, newest_of(last, time, kind, events.order[i]))
    # All ranks in the ring are one higher from now on, and so are their slots.
    _rotate(h.ring_time[row])
    _rotate(h.ring_id[row])
    _rotate(h.ring_item[row])
    _rotate(h.ring_session_age[row])
    _rotate(h.ring_amount[row])
    _rotate(h.ring_category[row])
    _rotate(h.ring_type[row])
    _rotate(h.ring_flags[row])
    _rotate(h.ring_order[row])
    _rotate(h.ring_quantity[row])
    return n - size - count + place


@kernel
def _rotate(values: Any) -> None:
    last = values[-1]
    for at in range(len(values) - 1, 0, -1):
        values[at] = values[at - 1]
    values[0] = last


@kernel
def _copy_slot(h: Columns, row: int, source: int, target: int) -> None:
    h.ring_time[row, target] = h.ring_time[row, source]
    h.ring_id[row, target] = h.ring_id[row, source]
    h.ring_item[row, target] = h.ring_item[row, source]
    h.ring_amount[row, target] = h.ring_amount[row, source]
    h.ring_category[row, target] = h.ring_category[row, source]
    h.ring_type[row, target] = h.ring_type[row, source]
    h.ring_flags[row, target] = h.ring_flags[row, source]
    h.ring_order[row, target] = h.ring_order[row, source]
    h.ring_quantity[row, target] = h.ring_quantity[row, source]


@kernel
def _repair(h: Columns, o: OverflowColumns, row: int, at: int, limits: Limits) -> None:
    """Set session ages and starts anew from a rank on; what lies before keeps its own."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    previous: Any = -1
    session: Any = 0
    if at > held_from(h, row):
        previous, _ = time_type(h, o, row, at - 1)
        place = arena_place(h, o, row, at - 1)
        if place >= 0:
            session = previous - np.int64(o.session_age[place])
        else:
            session = previous - np.int64(h.ring_session_age[row, (at - 1) % size])
    sessions = np.int64(h.sessions[row])
    for rank in range(at, n):
        now, _ = time_type(h, o, row, rank)
        new: Any = 0
        if previous < 0 or now - previous > limits.gap or now - session > limits.longest:
            session, new = now, SESSION_START
        place, slot = arena_place(h, o, row, rank), rank % size
        old = np.int64(o.flags[place] if place >= 0 else h.ring_flags[row, slot])
        if place >= 0:
            o.session_age[place], o.flags[place] = now - session, (old & ~SESSION_START) | new
        else:
            h.ring_session_age[row, slot] = now - session
            h.ring_flags[row, slot] = (old & ~SESSION_START) | new
        sessions += new - (old & SESSION_START)
        previous = now
    h.sessions[row] = sessions
