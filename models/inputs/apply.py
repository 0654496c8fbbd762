"""In-order events -> histories, for many users at once, without a Python loop per event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.history import (
    I64,
    LATE_LINE,
    ORDER_START,
    PURCHASE,
    SESSION_START,
    TYPE_SLOTS,
    Events,
    Records,
    SessionRules,
    Snapshot,
    Trace,
    entries_of,
    refunded_amount,
    signed_amount,
    snapshot,
)
from models.inputs.lines import PAST, Past
from models.kernels.columns import EventColumns
from models.kernels.orders import orders_in_order
from models.kernels.places import Table
from models.overflow import Held

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class _Segments:
    """Consecutive events per user: ``rows[k]`` owns ``starts[k] : starts[k] + sizes[k]``."""

    rows: NDArray[np.intp]
    starts: NDArray[np.intp]
    sizes: NDArray[np.intp]
    of: NDArray[np.intp]
    """Event -> its segment."""
    position: NDArray[np.intp]
    """Event -> its place in the segment."""

    @staticmethod
    def find(rows: NDArray[np.intp]) -> _Segments:
        starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1))
        sizes = np.diff(starts, append=len(rows))
        of = np.repeat(np.arange(len(starts)), sizes)
        return _Segments(rows[starts], starts, sizes, of, np.arange(len(rows)) - starts[of])

    @property
    def ends(self) -> NDArray[np.intp]:
        return self.starts + self.sizes - 1

    def running(self, values: I64, base: I64) -> I64:
        """Per segment the running sum of ``values`` (N or N x K), from ``base`` on."""
        total = np.cumsum(values, axis=0, dtype=np.int64)
        before = total[self.starts] - values[self.starts]
        return total + (base - before)[self.of]

    def shifted(self, values: I64, base: I64) -> I64:
        """Per segment the value of the event before; ``base`` for a segment's first event."""
        previous = np.empty_like(values)
        previous[1:] = values[:-1]
        previous[self.starts] = base
        return previous


def apply_in_order(
    records: Records,
    rows: NDArray[np.intp],
    events: Events,
    rules: SessionRules,
    held: Held | None = None,
) -> Trace:
    """Apply N events to ``records[rows]`` in place.

    Events of one row must be adjacent, in the order of histories, new to the row and later than all
    that it holds; the caller sorts out everything else (``models/inputs/insertion.py``).

    Args:
        records: the histories.
        rows: record of each event.
        events: the events.
        rules: when sessions and orders end.
        held: what the only record holds beyond its ring, where the caller takes care of what the
            events push out (``insertion.settle``). None: what leaves the ring is held no more.
    """
    if len(rows) == 0:
        return _empty_trace(events)
    seg = _Segments.find(rows)
    old = snapshot(records, seg.rows)
    rank = old.n[seg.of] + seg.position
    first = rank == 0
    gap = events.time - seg.shifted(events.time, old.last_time)
    gap[first] = 0

    starts_session, session_start = _sessions(seg, old, events, first | (gap > rules.gap), rules)
    session_age = events.time - session_start
    purchase = events.type == PURCHASE
    last_purchase = _last_time(seg, old.last_purchase, events, purchase)
    previous_purchase = seg.shifted(last_purchase, old.last_purchase)
    starts_order, change, discount = _orders(records, rows, events, rules, held)

    after = Snapshot(
        n=rank + 1,
        counts=seg.running(_one_hot(events.type), old.counts),
        spend=seg.running(signed_amount(events), old.spend),
        refunded=seg.running(refunded_amount(events), old.refunded),
        discount=seg.running(discount, old.discount),
        orders=seg.running(change, old.orders),
        sessions=seg.running(starts_session.astype(np.int64), old.sessions),
        first_time=np.where(old.n == 0, events.time[seg.starts], old.first_time)[seg.of],
        last_time=events.time,
        session_start=session_start,
        first_purchase=_first_purchase(seg, old, last_purchase, previous_purchase),
        last_purchase=last_purchase,
        last_order=_last_time(seg, old.last_order, events, starts_order),
    )
    known = purchase & (events.order & LATE_LINE == 0)
    _write_evicted(records, seg, rank, events, known)
    flags = (starts_session * SESSION_START + starts_order * ORDER_START).astype(np.uint8)
    _write_ring(records, seg, rank, entries_of(events, session_age, flags))
    _write_header(records, seg, after, events)
    return Trace(events, first, gap, session_age, after, starts_order)


def _orders(
    records: Records,
    rows: NDArray[np.intp],
    events: Events,
    rules: SessionRules,
    held: Held | None,
) -> tuple[Bools, I64, I64]:
    """Per event what it does to the orders of its user.

    Returns:
        (whether it begins an order; by how many the orders that stand changed; how much discount it
        adds to what was known, 1 / AMOUNT_UNIT)
    """
    begins, change = np.empty(len(rows), np.bool_), np.empty(len(rows), np.int64)
    discount = np.empty(len(rows), np.int64)
    row = int(rows[0])
    before = None if held is None else records[row].copy()
    if held is not None:
        # What the record holds before its ring is past as seen from the ring.
        past = Past.of(records[row], held.purchase, rules.gap)
        past.take_in(held.entries)
        past.keep_in(records[row])
    columns = EventColumns.of(events)
    orders_in_order(Table.of(records), rows, columns, rules.gap, begins, change, discount)
    if before is not None:
        for name in PAST:
            records[name][row] = before[name]
    return begins, change, discount


def _one_hot(types: NDArray[np.uint8]) -> I64:
    out = np.zeros((len(types), TYPE_SLOTS), np.int64)
    out[np.arange(len(types)), types] = 1
    return out


def _sessions(
    seg: _Segments, old: Snapshot, events: Events, pause: Bools, rules: SessionRules
) -> tuple[Bools, I64]:
    """Per event whether it starts a session, and when its session started."""
    starts = pause.copy()
    anchor = np.where(pause, events.time, 0)
    carried = seg.starts[~pause[seg.starts]]
    anchor[carried] = old.session_start[seg.of[carried]]
    known = pause.copy()
    known[seg.starts] = True
    source = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
    session_start = anchor[source]
    too_long = events.time - session_start > rules.longest
    for k in np.unique(seg.of[too_long]):
        lo, hi = seg.starts[k], seg.starts[k] + seg.sizes[k]
        start = int(session_start[lo])
        for i in range(lo, hi):
            if pause[i] or events.time[i] - start > rules.longest:
                start = int(events.time[i])
                starts[i] = True
            session_start[i] = start
    return starts, session_start


def _last_time(seg: _Segments, old: I64, events: Events, which: Bools) -> I64:
    """Per event the time of the latest of some events up to and including it; ``old`` if none."""
    here = np.where(which, events.time, 0)
    head = seg.starts
    here[head] = np.where(which[head], events.time[head], old)
    known = which.copy()
    known[head] = True
    return here[np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))]


def _first_purchase(
    seg: _Segments, old: Snapshot, last_purchase: I64, previous_purchase: I64
) -> I64:
    """Per event the time of the user's first purchase up to it, 0 if none.

    The first purchase is the one with none before it; from there on it stays.
    """
    is_first = np.where((previous_purchase == 0) & (last_purchase > 0), last_purchase, 0)
    return seg.running(is_first, old.first_purchase)


def _write_evicted(
    records: Records, seg: _Segments, rank: I64, events: Events, purchase: Bools
) -> None:
    """Note the newest event and the newest purchase that the new events push out of the ring.

    ``purchase``: of those that were not late.
    """
    size = records["ring"].shape[1]
    if int(rank.max()) < size:
        return
    pushes = np.flatnonzero(rank >= size)
    within = seg.position[pushes] >= size
    inner, outer = pushes[within], pushes[~within]
    left_time = np.empty(len(rank), np.int64)
    left_purchase = np.zeros(len(rank), np.bool_)
    left_time[inner] = events.time[inner - size]
    left_purchase[inner] = purchase[inner - size]
    gone = records["ring"][seg.rows[seg.of[outer]], rank[outer] % size]
    left_time[outer] = gone["time"]
    left_purchase[outer] = (gone["type"] == PURCHASE) & (gone["order"] & LATE_LINE == 0)

    ends = seg.ends[rank[seg.ends] >= size]
    records["evicted_time"][seg.rows[seg.of[ends]]] = left_time[ends]
    bought = pushes[left_purchase[pushes]]
    newest = records["evicted_purchase"][seg.rows]
    np.maximum.at(newest, seg.of[bought], left_time[bought])
    records["evicted_purchase"][seg.rows] = newest


def _write_ring(records: Records, seg: _Segments, rank: I64, entries: NDArray[np.void]) -> None:
    size = records["ring"].shape[1]
    slots = rank % size
    rows = seg.rows[seg.of]
    if int(seg.sizes.max()) > size:
        kept = np.flatnonzero(seg.position >= seg.sizes[seg.of] - size)
        rows, slots, entries = rows[kept], slots[kept], entries[kept]
    records["ring"][rows, slots] = entries


def _write_header(records: Records, seg: _Segments, after: Snapshot, events: Events) -> None:
    ends = seg.ends
    for name in Snapshot.__slots__:
        records[name][seg.rows] = getattr(after, name)[ends]
    records["last_id"][seg.rows] = events.id[ends]


def _empty_trace(events: Events) -> Trace:
    none = np.empty(0, np.int64)
    empty = Snapshot(
        n=none,
        counts=np.empty((0, TYPE_SLOTS), np.int64),
        spend=none,
        refunded=none,
        discount=none,
        orders=none,
        sessions=none,
        first_time=none,
        last_time=none,
        session_start=none,
        first_purchase=none,
        last_purchase=none,
        last_order=none,
    )
    nothing = np.empty(0, np.bool_)
    return Trace(events, nothing, none, none, empty, nothing)
