"""Events that a record holds one by one, in the overflow and the ring, by rank; and their orders.

The reference is ``models/inputs/lines.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.history import ORDER_START, PURCHASE, REFUND
from models.kernels.jit import kernel, part
from models.kernels.ledger import UNIT, copy_of, follow, is_late, is_line, newest_of
from models.kernels.orders import past_of

if TYPE_CHECKING:
    from models.kernels.columns import Columns, EventColumns, Limits
    from models.kernels.overflow import OverflowColumns


@part
def held_from(h: Columns, row: int) -> Any:
    """Rank of the oldest event that is held one by one, in the overflow or the ring."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    return max(n - size - np.int64(h.overflow[row]), 0)


@part
def arena_place(h: Columns, o: OverflowColumns, row: int, rank: int) -> Any:
    """Where in the arena the event of a rank lies; -1 if it is in the ring."""
    first = np.int64(h.n[row]) - h.ring_time.shape[1]
    if rank >= first:
        return -1
    return o.base[row] + o.head[row] + rank - (first - np.int64(h.overflow[row]))


@part
def time_type(h: Columns, o: OverflowColumns, row: int, rank: int) -> Any:
    """Time and type of the event of a rank."""
    place = arena_place(h, o, row, rank)
    if place >= 0:
        return o.time[place], np.int64(o.type[place])
    slot = rank % h.ring_time.shape[1]
    return h.ring_time[row, slot], np.int64(h.ring_type[row, slot])


@part
def _line(h: Columns, o: OverflowColumns, row: int, rank: int) -> Any:
    """The order, item, amount and quantity of the line of a rank."""
    place = arena_place(h, o, row, rank)
    if place >= 0:
        return o.order[place], o.item[place], o.amount[place], o.quantity[place]
    slot = rank % h.ring_time.shape[1]
    return (
        h.ring_order[row, slot],
        h.ring_item[row, slot],
        h.ring_amount[row, slot],
        h.ring_quantity[row, slot],
    )


@part
def _last_past(h: Columns, o: OverflowColumns, row: int) -> Any:
    """The newest purchase, not late, before all that a record holds, ms; 0: there is none."""
    return o.purchase[row] if h.overflow[row] else h.evicted_purchase[row]


@kernel
def follow_newest(
    h: Columns, o: OverflowColumns, row: int, events: EventColumns, i: int, limits: Limits
) -> tuple[bool, int]:
    """What a line behind all others does: (begins an order, change of the orders that stand)."""
    time, kind, code = events.time[i], np.int64(events.type[i]), events.order[i]
    last = h.last_purchase[row]
    if kind == PURCHASE and h.counts[row, REFUND] == 0:
        # Nothing was given back: mostly the purchase before it tells, without all the others.
        if not code and (last == 0 or time - last > limits.gap):
            return True, 1
        n, size = np.int64(h.n[row]), h.ring_time.shape[1]
        slot = (n - 1) % size
        for _ in range(min(n, size)):
            if h.ring_type[row, slot] == PURCHASE:
                other = h.ring_order[row, slot]
                if other == code if code else not is_late(other):
                    return False, 0
                break
            slot = slot - 1 if slot > 0 else size - 1
    ledger, before = copy_of(past_of(h, row)), _last_past(h, o, row)
    for rank in range(held_from(h, row), np.int64(h.n[row])):
        then, what = time_type(h, o, row, rank)
        if is_line(what):
            order, item, amount, units = _line(h, o, row, rank)
            follow(ledger, before, then, limits.gap, what, order, item, amount, units)
            before = newest_of(before, then, what, order)
    amount, units = np.float32(events.amount[i] / UNIT), events.quantity[i]
    return follow(ledger, before, time, limits.gap, kind, code, events.item[i], amount, units)


@kernel
def follow_held(h: Columns, o: OverflowColumns, row: int, limits: Limits) -> None:
    """Set anew which held lines begin an order, and the orders that stand."""
    ledger, before = copy_of(past_of(h, row)), _last_past(h, o, row)
    standing: Any = np.int64(h.past_orders[row])
    newest = h.past_order[row]
    size = h.ring_time.shape[1]
    for rank in range(held_from(h, row), np.int64(h.n[row])):
        then, what = time_type(h, o, row, rank)
        if not is_line(what):
            continue
        order, item, amount, units = _line(h, o, row, rank)
        begins, change = follow(ledger, before, then, limits.gap, what, order, item, amount, units)
        standing += change
        if begins:
            newest = then
        before = newest_of(before, then, what, order)
        place, slot = arena_place(h, o, row, rank), rank % size
        start = ORDER_START if begins else 0
        if place >= 0:
            o.flags[place] = (o.flags[place] & ~np.uint8(ORDER_START)) | np.uint8(start)
        else:
            old = h.ring_flags[row, slot] & ~np.uint8(ORDER_START)
            h.ring_flags[row, slot] = old | np.uint8(start)
    h.orders[row], h.last_order[row] = np.uint32(standing), newest
