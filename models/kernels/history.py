"""Events of many users, in order of arrival, into their histories: one pass, one event at a time.

The same rules as ``models/apply.py`` (in order) and ``models/insertion.py`` (out of order), which
say them in NumPy; tests compare the two bit for bit. Integers only: what features make of them is
``models/features.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.history import (
    AMOUNT_UNIT,
    I64,
    ORDER_START,
    PURCHASE,
    REFUND,
    SESSION_START,
    TYPE_SLOTS,
    Records,
)
from models.kernels.jit import kernel
from models.steps import NOTHING

if TYPE_CHECKING:
    from models.history import Events

ACCEPTED, REPLAYED, DUPLICATE, LATE = 0, 1, 2, 3
"""Verdicts."""

_UNIT = np.float64(AMOUNT_UNIT)


class Columns(NamedTuple):
    """The history fields of all records, each as one array over the rows (ring: rows x slots)."""

    first_time: I64
    last_time: I64
    last_id: NDArray[np.uint64]
    session_start: I64
    first_purchase: I64
    last_purchase: I64
    evicted_time: I64
    evicted_purchase: I64
    spend: I64
    counts: NDArray[np.uint32]
    n: NDArray[np.uint32]
    orders: NDArray[np.uint32]
    sessions: NDArray[np.uint32]
    ring_time: I64
    ring_id: NDArray[np.uint64]
    ring_item: NDArray[np.uint32]
    ring_session_age: NDArray[np.uint32]
    ring_amount: NDArray[np.float32]
    ring_category: NDArray[np.uint16]
    ring_type: NDArray[np.uint8]
    ring_flags: NDArray[np.uint8]

    @classmethod
    def of(cls, records: Records) -> Columns:
        """Views into ``records``."""
        ring = records["ring"]
        return cls(
            *(
                ring[name.removeprefix("ring_")] if name.startswith("ring_") else records[name]
                for name in cls._fields
            )
        )


class EventColumns(NamedTuple):
    """``Events`` as a kernel takes them."""

    time: I64
    id: NDArray[np.uint64]
    type: NDArray[np.uint8]
    item: NDArray[np.uint32]
    category: NDArray[np.uint16]
    amount: I64

    @classmethod
    def of(cls, events: Events) -> EventColumns:
        """The columns of ``events``, contiguous."""
        return cls(*(np.ascontiguousarray(getattr(events, name)) for name in cls._fields))


class Limits(NamedTuple):
    """When an event still counts, and how much of a history a rebuilt state sees."""

    gap: int
    """Session gap, ms."""
    longest: int
    """Longest session, ms."""
    grace: int
    """ms."""
    ttl: int
    """A user silent for longer starts from nothing, ms; 0 = never."""
    rebuilt: int
    """Newest events of which a state is rebuilt after an insertion, at most the ring; 0: no state
    is wanted."""
    recurrent: bool
    """If not, every state is made anew of the newest events."""


class After(NamedTuple):
    """Per event the aggregates of its user just after it, as in ``Snapshot``; A rows."""

    n: I64
    counts: I64
    spend: I64
    orders: I64
    sessions: I64
    first_time: I64
    last_time: I64
    session_start: I64
    first_purchase: I64
    last_purchase: I64


class Inputs(NamedTuple):
    """Per input of the recurrence what its features are computed from; M rows."""

    time: I64
    gap: I64
    session_age: I64
    amount: NDArray[np.float32]
    item: NDArray[np.uint32]
    category: NDArray[np.uint16]
    type: NDArray[np.uint8]
    first: NDArray[np.bool_]


@kernel
def _room(inputs: Inputs, used: int, more: int) -> Inputs:
    """The inputs with room for ``more`` behind the ``used`` ones."""
    size = len(inputs.time)
    if used + more <= size:
        return inputs
    size = 2 * size + more
    grown = _new_inputs(size)
    grown.time[:used] = inputs.time[:used]
    grown.gap[:used] = inputs.gap[:used]
    grown.session_age[:used] = inputs.session_age[:used]
    grown.amount[:used] = inputs.amount[:used]
    grown.item[:used] = inputs.item[:used]
    grown.category[:used] = inputs.category[:used]
    grown.type[:used] = inputs.type[:used]
    grown.first[:used] = inputs.first[:used]
    return grown


@kernel
def _new_inputs(size: int) -> Inputs:
    return Inputs(
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float32),
        np.empty(size, np.uint32),
        np.empty(size, np.uint16),
        np.empty(size, np.uint8),
        np.empty(size, np.bool_),
    )


@kernel
def _known(h: Columns, row: int, event_id: np.uint64) -> bool:
    """Whether the ring holds an event of this id hash."""
    used = min(np.int64(h.n[row]), h.ring_time.shape[1])
    for slot in range(used):  # noqa: SIM110  # numba knows no generator expressions
        if h.ring_id[row, slot] == event_id:
            return True
    return False


@kernel
def _clear(h: Columns, row: int) -> None:
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
def _append(h: Columns, row: int, events: EventColumns, i: int, limits: Limits) -> tuple[int, int]:
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
    h.ring_amount[row, slot] = np.float32(events.amount[i] / _UNIT)
    h.ring_category[row, slot] = events.category[i]
    h.ring_type[row, slot] = events.type[i]


@kernel
def _has_place(h: Columns, row: int, time: int, event_id: np.uint64) -> Any:
    """Whether an event would land inside the ring: a full one has no place before its oldest."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    if n < size:
        return True
    slot = n % size
    oldest = h.ring_time[row, slot]
    return time > oldest or (time == oldest and event_id > h.ring_id[row, slot])


@kernel
def _insert(h: Columns, row: int, events: EventColumns, i: int, limits: Limits) -> None:
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


@kernel
def _ring_inputs(h: Columns, row: int, length: int, inputs: Inputs, used: int) -> int:
    """The newest ``length`` events as inputs behind the ``used`` ones; how many are used then."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    oldest = max(n - size, 0)
    for rank in range(max(n - length, oldest), n):
        slot = rank % size
        time = h.ring_time[row, slot]
        if rank == 0:
            gap = 0
        elif rank > oldest:
            gap = time - h.ring_time[row, (rank - 1) % size]
        else:
            gap = time - h.evicted_time[row]
        inputs.time[used] = time
        inputs.gap[used] = gap
        inputs.session_age[used] = h.ring_session_age[row, slot]
        inputs.amount[used] = h.ring_amount[row, slot]
        inputs.item[used] = h.ring_item[row, slot]
        inputs.category[used] = h.ring_category[row, slot]
        inputs.type[used] = h.ring_type[row, slot]
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


@kernel
def take_events(
    h: Columns,
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
        source_offset: per record the last source offset applied; moved on.
        rows: record of each event.
        offsets: source offset of each event, rising.
        events: the events.
        limits: the rules.
        newest: 0 per record, before and after the call: space to work in.

    Returns:
        (verdicts_N, late_by_N, accepted_A, before_A, forgotten_A, start_A, after, inputs, M):
        ``before`` and ``start`` as in ``Steps``; ``forgotten``: the event came after the time to
        live and its history begins with it; the first M of ``inputs`` count.
    """
    count, size = len(rows), h.ring_time.shape[1]
    wanted = limits.rebuilt > 0
    length = min(limits.rebuilt, size)
    verdicts = np.zeros(count, np.uint8)
    late_by = np.zeros(count, np.int64)
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
    )
    inputs = _new_inputs(count + length)
    a = used = 0  # newest[row] - 1 is the row's last accepted event, -1 (STORED) for none
    for i in range(count):
        row, time, event_id = rows[i], events.time[i], events.id[i]
        if offsets[i] <= source_offset[row]:
            verdicts[i] = REPLAYED
            continue
        fresh = False
        if h.n[row] > 0 and limits.ttl > 0 and time - h.last_time[row] > limits.ttl:
            _clear(h, row)
            fresh = True
        last = h.last_time[row]
        if _known(h, row, event_id):
            verdicts[i] = DUPLICATE
            continue
        inputs = _room(inputs, used, length + 1)
        start[a] = used
        if h.n[row] == 0 or time > last or (time == last and event_id > h.last_id[row]):
            gap, age = _append(h, row, events, i, limits)
            before[a] = NOTHING if fresh or not limits.recurrent else newest[row] - 1
            if wanted and not limits.recurrent:
                used = _ring_inputs(h, row, length, inputs, used)
            elif wanted:
                inputs.time[used] = time
                inputs.gap[used] = gap
                inputs.session_age[used] = age
                inputs.amount[used] = np.float32(events.amount[i] / _UNIT)
                inputs.item[used] = events.item[i]
                inputs.category[used] = events.category[i]
                inputs.type[used] = events.type[i]
                inputs.first[used] = h.n[row] == 1
                used += 1
        elif time < last - limits.grace or not _has_place(h, row, time, event_id):
            verdicts[i] = LATE
            late_by[i] = last - time
            continue
        else:
            _insert(h, row, events, i, limits)
            before[a] = NOTHING
            if wanted:
                used = _ring_inputs(h, row, length, inputs, used)
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
    )
