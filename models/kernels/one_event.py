"""One event into the history of its user, in order or not.

The rules are those of ``models/inputs/apply.py`` and ``models/inputs/insertion.py``, which say them
in NumPy. An event is an entry (`models.kernels.orders.fill_entry`) with its exact amount
beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.history import (
    HISTORY,
    LINE,
    ON_TIME,
    ORDER_START,
    PURCHASE,
    REFUND,
    SESSION_START,
)
from models.kernels.held import follow_held, follow_newest
from models.kernels.jit import kernel
from models.kernels.ledger import newest_of
from models.kernels.overflow import (
    drop_overflow,
    end_overflow,
    make_room,
    note_id,
    open_place,
    past_entry,
    settle,
    take_in,
)
from models.kernels.places import (
    copy_entry,
    held_from,
    in_arena,
    in_slot,
    new_entry,
    of_rank,
    slot_of,
    zero,
)
from models.kernels.sequence import comes_after

if TYPE_CHECKING:
    from models.kernels.columns import Limits
    from models.kernels.places import History


@kernel
def clear(u: History) -> None:
    """A history without events."""
    if u.head.overflow:
        drop_overflow(u)
    zero(u.head)
    for slot in range(u.size):
        zero(in_slot(u, slot))


@kernel
def _count(h: Any, kind: Any, amount: int) -> None:
    h.n += np.uint32(1)
    h.counts[kind] += np.uint32(1)
    if kind == PURCHASE:
        h.spend += amount
    elif kind == REFUND:
        h.spend -= amount
        h.refunded += amount


@kernel
def append(u: History, event: Any, amount: int, limits: Limits) -> int:
    """One event behind all others of its user, whose session it notes; the gap before it, ms."""
    h, size = u.head, u.size
    time, kind, n = event.time, event.type, np.int64(h.n)
    gap = 0 if n == 0 else time - h.last_time
    session, flags = h.session_start, np.uint8(0)
    if n == 0 or gap > limits.gap or time - session > limits.longest:
        session, flags = time, np.uint8(SESSION_START)
        h.sessions += np.uint32(1)
    if n == 0:
        h.first_time = time
    if event.flags & LINE:
        begins, change, discount = follow_newest(u, event, limits.gap)
        if begins:
            flags |= np.uint8(ORDER_START)
            h.last_order = time
        h.orders = np.uint32(np.int64(h.orders) + change)
        h.discount += discount
    if kind == PURCHASE:
        if h.last_purchase == 0:
            h.first_purchase = time
        h.last_purchase = time
    slot = slot_of(u, n)
    if n >= size:
        oldest = in_slot(u, slot_of(u, n + 1)).time if size > 1 else time
        _evict(u, slot, oldest, time, limits)
    event.session_age = np.uint32(time - session)
    event.flags = event.flags | flags
    copy_entry(in_slot(u, slot), event)
    _count(h, kind, amount)
    h.last_time, h.last_id, h.session_start = time, event.id, session
    return gap


@kernel
def _evict(u: History, slot: Any, oldest: int, last: int, limits: Limits) -> None:
    """A ring entry leaves; ``oldest``, ``last``: times of the ring's oldest and newest entry then.

    While a whole ring lies within the grace, events may still come before it: what left it is kept.
    """
    h, leaves = u.head, in_slot(u, slot)
    since = last - limits.grace
    if oldest >= since:
        take_in(u, slot)
        settle(u, since, limits.most, limits.gap)
    else:
        if h.overflow:
            end_overflow(u, limits.gap)
        past_entry(u, leaves, h.evicted_purchase, limits.gap)
    h.evicted_time = leaves.time
    h.evicted_purchase = newest_of(h.evicted_purchase, leaves.time, leaves.type, leaves.order)


@kernel
def goes_before(event: Any, other: Any) -> bool:
    """Whether an event belongs before another one of its user; both as entries."""
    if event.time != other.time:
        return bool(event.time < other.time)
    return comes_after(other.type, other.id, event.type, event.id)


@kernel
def is_newest(u: History, event: Any) -> bool:
    """Whether an event belongs behind all others."""
    n = np.int64(u.head.n)
    return bool(n == 0 or goes_before(in_slot(u, slot_of(u, n - 1)), event))


@kernel
def in_front(u: History, event: Any) -> bool:
    """Whether an event belongs before all of a full ring."""
    n = np.int64(u.head.n)
    return bool(n >= u.size and goes_before(event, in_slot(u, slot_of(u, n))))


@kernel
def has_place(u: History, event: Any, most: int) -> bool:
    """Whether all events after this one are held one by one, at most ``most`` beyond the ring."""
    if not in_front(u, event):
        return True
    h, s = u.head, u.segment
    count = np.int64(h.overflow)
    if h.n == u.size + count and count < most:
        return True
    return bool(count > 0 and goes_before(in_arena(u, s.base + s.head), event))


@kernel
def counts_late(u: History, event: Any, mark: Any, grace: int) -> bool:
    """Whether an event counts that is older than its user's latest by more than the grace.

    It does if it is on time by all others' clocks, or history and no newer history is that much
    later; and if it belongs into the ring: then nothing that has left the ring comes after it, and
    a repeat of it is recognised. ``mark``: `HISTORY` and `ON_TIME`.
    """
    if not mark & (HISTORY | ON_TIME) or in_front(u, event):
        return False
    if mark & ON_TIME:
        return True
    n = np.int64(u.head.n)
    oldest: Any = max(n - u.size, 0)
    for rank in range(n - 1, oldest - 1, -1):
        entry = in_slot(u, slot_of(u, rank))
        if entry.flags & HISTORY:
            return bool(event.time >= entry.time - grace)
    return True


@kernel
def insert(u: History, event: Any, amount: int, limits: Limits) -> None:
    """One event where it belongs, before later ones; it has a place."""
    h, time, kind = u.head, event.time, event.type
    newest = slot_of(u, h.n)
    before = new_entry()
    copy_entry(before, in_slot(u, newest))  # of a full ring the one that leaves
    at = _insert_overflow(u, event) if in_front(u, event) else _insert_ring(u, event, limits)
    _count(h, kind, amount)
    _repair(u, at, before, limits)
    if event.flags & LINE:
        follow_held(u, limits.gap)
    if h.overflow:
        settle(u, h.last_time - limits.grace, limits.most, limits.gap)
    h.first_time = min(h.first_time, time)
    if kind == PURCHASE:
        first = h.first_purchase
        h.first_purchase = time if first == 0 else min(first, time)
        h.last_purchase = max(h.last_purchase, time)
    last = in_slot(u, newest)
    h.last_time, h.last_id = last.time, last.id
    h.session_start = last.time - np.int64(last.session_age)


@kernel
def _insert_ring(u: History, event: Any, limits: Limits) -> int:
    """Write an event where it belongs in the ring; its rank."""
    h, n, size = u.head, np.int64(u.head.n), u.size
    oldest: Any = max(n - size, 0)
    at: Any = n
    while at > oldest and goes_before(event, in_slot(u, slot_of(u, at - 1))):
        at -= 1
    if n >= size:
        first = event.time if at == oldest + 1 else in_slot(u, slot_of(u, n + 1)).time
        _evict(u, slot_of(u, n), first, h.last_time, limits)
    for rank in range(n - 1, at - 1, -1):
        copy_entry(in_slot(u, slot_of(u, rank + 1)), in_slot(u, slot_of(u, rank)))
    copy_entry(in_slot(u, slot_of(u, at)), event)
    return int(at)


@kernel
def _insert_overflow(u: History, event: Any) -> int:
    """Write an event where it belongs before the ring; its rank."""
    h, n, size = u.head, np.int64(u.head.n), u.size
    make_room(u, 1)
    count: Any = np.int64(h.overflow)
    s, place = u.segment, count
    begin = s.base + s.head
    while place > 0 and goes_before(event, in_arena(u, begin + place - 1)):
        place -= 1
    copy_entry(in_arena(u, open_place(u, place)), event)
    note_id(u, event.id)
    if place == count:
        h.evicted_time = event.time
    last = h.evicted_purchase
    h.evicted_purchase = max(last, newest_of(last, event.time, event.type, event.order))
    # All ranks in the ring are one higher from now on, and so are their slots.
    newest = new_entry()
    copy_entry(newest, in_slot(u, size - 1))
    for slot in range(size - 1, 0, -1):
        copy_entry(in_slot(u, slot), in_slot(u, slot - 1))
    copy_entry(in_slot(u, 0), newest)
    return int(n - size - count + place)


@kernel
def _repair(u: History, at: int, before: Any, limits: Limits) -> None:
    """Set session ages and starts anew from a rank on; what lies before keeps its own.

    ``before``: the entry before that rank, where it is no longer held; overwritten.
    """
    h = u.head
    previous: Any = -1
    session: Any = 0
    if at > held_from(u):
        copy_entry(before, of_rank(u, at - 1))
    if at > 0:
        previous = before.time
        session = previous - np.int64(before.session_age)
    sessions = np.int64(h.sessions)
    for rank in range(at, np.int64(h.n)):
        entry = of_rank(u, rank)
        now, new = entry.time, 0
        if previous < 0 or now - previous > limits.gap or now - session > limits.longest:
            session, new = now, SESSION_START
        old = np.int64(entry.flags)
        entry.session_age = np.uint32(now - session)
        entry.flags = np.uint8((old & ~SESSION_START) | new)
        sessions += new - (old & SESSION_START)
        previous = now
    h.sessions = np.uint32(sessions)
