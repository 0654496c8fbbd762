"""The orders of the lines that a record holds, and of those before them; see `models/orders.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.history import LINE, ORDER_START
from models.kernels.jit import kernel
from models.kernels.ledger import UNIT, Ledger, copy_of, follow, is_line, newest_of

if TYPE_CHECKING:
    from models.history import I64
    from models.kernels.columns import Columns, EventColumns


@kernel
def past_of(h: Columns, row: int) -> Ledger:
    """The orders of the lines before all that a record holds, to be changed in place."""
    return Ledger(h.past_code[row], h.past_units[row], h.past_amount[row], h.past_items[row])


@kernel
def past_line(
    h: Columns,
    row: int,
    last: int,
    gap: int,
    time: int,
    kind: Any,
    code: Any,
    item: Any,
    amount: Any,
    units: Any,
    flags: Any,
) -> Any:
    """Take in a line that a record no longer holds; the newest such purchase, not late, ms.

    Args:
        h: the histories.
        row: the record.
        last: the newest purchase before the line that was not late, ms; 0: there is none.
        gap: session gap, ms.
        time: of the line, ms.
        kind: its type.
        code: of its order.
        item: hash of its item.
        amount: currency units.
        units: how many.
        flags: of its entry.
    """
    _, change = follow(past_of(h, row), last, time, gap, kind, code, item, amount, units)
    h.past_orders[row] = np.uint32(np.int64(h.past_orders[row]) + change)
    if flags & ORDER_START:
        h.past_order[row] = time
    return newest_of(last, time, kind, code)


@kernel
def past_slot(h: Columns, row: int, slot: int, last: int, gap: int) -> Any:
    """As `past_line`, of an entry of the ring, which may be no line."""
    if not h.ring_flags[row, slot] & LINE:
        return last
    return past_line(
        h,
        row,
        last,
        gap,
        h.ring_time[row, slot],
        h.ring_type[row, slot],
        h.ring_order[row, slot],
        h.ring_item[row, slot],
        h.ring_amount[row, slot],
        h.ring_quantity[row, slot],
        h.ring_flags[row, slot],
    )


@kernel
def follow_ring(h: Columns, row: int, ledger: Ledger, gap: int) -> Any:
    """Take in the lines of a record's ring; the newest purchase that was not late, ms."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    last: Any = h.evicted_purchase[row]
    for rank in range(max(n - size, 0), n):
        slot = rank % size
        if not h.ring_flags[row, slot] & LINE:
            continue
        time, kind = h.ring_time[row, slot], h.ring_type[row, slot]
        code = h.ring_order[row, slot]
        follow(
            ledger,
            last,
            time,
            gap,
            kind,
            code,
            h.ring_item[row, slot],
            h.ring_amount[row, slot],
            h.ring_quantity[row, slot],
        )
        last = newest_of(last, time, kind, code)
    return last


@kernel
def orders_in_order(
    h: Columns, rows: I64, events: EventColumns, gap: int, begins: Any, change: I64
) -> None:
    """Follow the orders of N events behind all others of their records, which hold a ring only.

    The records' past takes in what the events will push out of the ring; nothing else is changed.

    Args:
        h: the histories.
        rows: record of each event; those of one are adjacent.
        events: in order of row and, of each, in that of histories.
        gap: session gap, ms.
        begins: [N] to be filled with whether the event begins an order.
        change: [N] to be filled with by how many the orders that stand changed.
    """
    count, size = len(rows), h.ring_time.shape[1]
    i = 0
    while i < count:
        row, end = rows[i], i
        while end < count and rows[end] == row:
            end += 1
        n = np.int64(h.n[row])
        oldest = max(n - size, 0)
        ledger = copy_of(past_of(h, row))
        last: Any = follow_ring(h, row, ledger, gap)
        for e in range(i, end):
            begins[e], change[e] = False, 0
            if not is_line(events.type[e]):
                continue
            begins[e], change[e] = follow(
                ledger,
                last,
                events.time[e],
                gap,
                events.type[e],
                events.order[e],
                events.item[e],
                np.float32(events.amount[e] / UNIT),
                events.quantity[e],
            )
            last = newest_of(last, events.time[e], events.type[e], events.order[e])
        last = h.evicted_purchase[row]
        for rank in range(oldest, n + end - i - size):
            if rank < n:
                last = past_slot(h, row, rank % size, last, gap)
                continue
            left: Any = i + rank - n
            if is_line(events.type[left]):
                last = past_line(
                    h,
                    row,
                    last,
                    gap,
                    events.time[left],
                    events.type[left],
                    events.order[left],
                    events.item[left],
                    np.float32(events.amount[left] / UNIT),
                    events.quantity[left],
                    ORDER_START if begins[left] else 0,
                )
        i = end
