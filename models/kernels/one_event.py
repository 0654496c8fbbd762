"""One event into the history of its user, in order or not.

The rules are those of ``models/inputs/apply.py`` and ``models/inputs/insertion.py``, which say them
in NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.history import AMOUNT_UNIT, ORDER_START, PURCHASE, REFUND, SESSION_START
from models.kernels.jit import kernel

if TYPE_CHECKING:
    from models.kernels.columns import Columns, EventColumns, Limits

UNIT = np.float64(AMOUNT_UNIT)


@kernel
def knows(h: Columns, row: int, event_id: np.uint64) -> bool:
    """Whether the ring holds an event of this id hash."""
    used = min(np.int64(h.n[row]), h.ring_time.shape[1])
    for slot in range(used):  # noqa: SIM110  # numba knows no generator expressions
        if h.ring_id[row, slot] == event_id:
            return True
    return False


@kernel
def clear(h: Columns, row: int) -> None:
    """A history without events."""
    h.first_time[row] = 0
    h.last_time[row] = 0
    h.last_id[row] = 0
    h.session_start[row] = 0
    h.first_purchase[row] = 0
    h.last_purchase[row] = 0
    h.evicted_time[row] = 0
    h.evicted_purchase[row] = 0
    h.spend[row] = 0
    h.counts[row] = 0
    h.n[row] = 0
    h.orders[row] = 0
    h.sessions[row] = 0
    h.ring_time[row] = 0
    h.ring_id[row] = 0
    h.ring_item[row] = 0
    h.ring_session_age[row] = 0
    h.ring_amount[row] = 0
    h.ring_category[row] = 0
    h.ring_type[row] = 0
    h.ring_flags[row] = 0


@kernel
def _count(h: Columns, row: int, kind: Any, amount: int) -> None:
    h.n[row] += np.uint32(1)
    h.counts[row, kind] += np.uint32(1)
    if kind == PURCHASE:
        h.spend[row] += amount
    elif kind == REFUND:
        h.spend[row] -= amount


@kernel
def append(h: Columns, row: int, events: EventColumns, i: int, limits: Limits) -> tuple[int, int]:
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
    if kind == PURCHASE:
        previous = h.last_purchase[row]
        if previous == 0:
            h.first_purchase[row] = time
        if previous == 0 or time - previous > limits.gap:
            flags |= ORDER_START
            h.orders[row] += np.uint32(1)
        h.last_purchase[row] = time
    slot = n % size
    if n >= size:
        h.evicted_time[row] = h.ring_time[row, slot]
        if h.ring_type[row, slot] == PURCHASE:
            h.evicted_purchase[row] = h.ring_time[row, slot]
    _write(h, row, slot, events, i)
    h.ring_session_age[row, slot] = time - session
    h.ring_flags[row, slot] = flags
    _count(h, row, kind, events.amount[i])
    h.last_time[row], h.last_id[row] = time, events.id[i]
    h.session_start[row] = session
    return gap, time - session


@kernel
def _write(h: Columns, row: int, slot: int, events: EventColumns, i: int) -> None:
    h.ring_time[row, slot] = events.time[i]
    h.ring_id[row, slot] = events.id[i]
    h.ring_item[row, slot] = events.item[i]
    h.ring_amount[row, slot] = np.float32(events.amount[i] / UNIT)
    h.ring_category[row, slot] = events.category[i]
    h.ring_type[row, slot] = events.type[i]


@kernel
def has_place(h: Columns, row: int, time: int, event_id: np.uint64) -> Any:
    """Whether an event would land inside the ring: a full one has no place before its oldest."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    if n < size:
        return True
    slot = n % size
    oldest = h.ring_time[row, slot]
    return time > oldest or (time == oldest and event_id > h.ring_id[row, slot])


@kernel
def insert(h: Columns, row: int, events: EventColumns, i: int, limits: Limits) -> None:
    """One event where it belongs, before later ones; its place is in the ring."""
    time, event_id, kind = events.time[i], events.id[i], np.int64(events.type[i])
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    oldest = max(n - size, 0)
    at = n
    while at > oldest:
        slot = (at - 1) % size
        other = h.ring_time[row, slot]
        if other < time or (other == time and h.ring_id[row, slot] <= event_id):
            break
        at -= 1
    previous, session = -1, 0
    if at > oldest:
        previous = h.ring_time[row, (at - 1) % size]
        session = previous - np.int64(h.ring_session_age[row, (at - 1) % size])
    bought = h.evicted_purchase[row]
    back = at - 1
    while back >= oldest:
        if h.ring_type[row, back % size] == PURCHASE:
            bought = h.ring_time[row, back % size]
            break
        back -= 1
    if n >= size:
        h.evicted_time[row] = h.ring_time[row, n % size]
        if h.ring_type[row, n % size] == PURCHASE:
            h.evicted_purchase[row] = h.ring_time[row, n % size]
    sessions, orders = np.int64(h.sessions[row]), np.int64(h.orders[row])
    for rank in range(n - 1, at - 1, -1):
        source, target = rank % size, (rank + 1) % size
        flags = np.int64(h.ring_flags[row, source])
        sessions -= flags & SESSION_START
        orders -= (flags & ORDER_START) >> 1
        h.ring_time[row, target] = h.ring_time[row, source]
        h.ring_id[row, target] = h.ring_id[row, source]
        h.ring_item[row, target] = h.ring_item[row, source]
        h.ring_amount[row, target] = h.ring_amount[row, source]
        h.ring_category[row, target] = h.ring_category[row, source]
        h.ring_type[row, target] = h.ring_type[row, source]
    _write(h, row, at % size, events, i)
    for rank in range(at, n + 1):
        slot = rank % size
        now = h.ring_time[row, slot]
        new = 0
        if previous < 0 or now - previous > limits.gap or now - session > limits.longest:
            session, new = now, SESSION_START
            sessions += 1
        if h.ring_type[row, slot] == PURCHASE:
            if bought == 0 or now - bought > limits.gap:
                new |= ORDER_START
                orders += 1
            bought = now
        h.ring_session_age[row, slot] = now - session
        h.ring_flags[row, slot] = new
        previous = now
    h.sessions[row], h.orders[row] = sessions, orders
    _count(h, row, kind, events.amount[i])
    h.first_time[row] = min(h.first_time[row], time)
    if kind == PURCHASE:
        first = h.first_purchase[row]
        h.first_purchase[row] = time if first == 0 else min(first, time)
        h.last_purchase[row] = max(h.last_purchase[row], time)
    newest = n % size
    h.last_time[row], h.last_id[row] = h.ring_time[row, newest], h.ring_id[row, newest]
    h.session_start[row] = h.ring_time[row, newest] - np.int64(h.ring_session_age[row, newest])
