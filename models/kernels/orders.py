"""The orders of the lines that a record holds, and of those before them; see `models/orders.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.history import DISCOUNTED, HISTORY, LINE, ORDER_START, PURCHASE, RETIMED
from models.kernels.jit import kernel
from models.kernels.ledger import UNIT, Ledger, copy_of, follow, is_line, newest_of
from models.kernels.places import NO_ARENA, copy_entry, history, in_slot, new_entry, slot_of

if TYPE_CHECKING:
    from models.history import I64
    from models.kernels.columns import EventColumns
    from models.kernels.places import History, Table

_CAME: Final = RETIMED | HISTORY
"""Flags that say how an event came."""


@kernel
def fill_entry(entry: Any, events: EventColumns, i: Any) -> None:
    """Make an entry what event ``i`` says; its place in sessions and orders is still open."""
    entry.time, entry.id, entry.item = events.time[i], events.id[i], events.item[i]
    entry.session_age = np.uint32(0)
    entry.amount = np.float32(events.amount[i] / UNIT)
    entry.category, entry.type = events.category[i], events.type[i]
    line = is_line(events.type[i])
    entry.flags = np.uint8((LINE if line else 0) | (events.moved[i] & _CAME))
    entry.order = events.order[i] if line else np.uint32(0)
    entry.quantity = events.quantity[i] if line else np.uint32(0)
    entry.discount = np.int64(0)
    if events.discount[i] > 0 and events.type[i] == PURCHASE:
        entry.discount = events.discount[i]
        entry.flags |= np.uint8(DISCOUNTED)


@kernel
def past_of(h: Any) -> Ledger:
    """The orders of the lines before all that a record holds, to be changed in place.

    ``h``: its header.
    """
    return Ledger(
        h.past_code[:],
        h.past_units[:],
        h.past_amount[:],
        h.past_items[:],
        h.past_begun[:],
        h.past_discount[:],
        h.past_starts[:],
    )


@kernel
def follow_entry(ledger: Ledger, last: Any, gap: int, line: Any) -> tuple[Any, bool, int, int]:
    """Take in a line, as an entry.

    Args:
        ledger: the orders, changed in place.
        last: the newest purchase before the line that was not late, ms; 0: there is none.
        gap: session gap, ms.
        line: the line.

    Returns:
        (the newest such purchase then, ms; whether the line begins an order; by how many the orders
        that stand changed; how much discount it adds to that of its order)
    """
    time, kind, code, amount = line.time, line.type, line.order, line.amount
    begins, change, discount = follow(
        ledger, last, time, gap, kind, code, line.item, amount, line.quantity, line.discount
    )
    return newest_of(last, time, kind, code), begins, change, discount


@kernel
def past_line(h: Any, last: Any, gap: int, line: Any) -> Any:
    """Take in a line that a record no longer holds; the newest such purchase, not late, ms.

    Args:
        h: the record's header.
        last: the newest purchase before the line that was not late, ms; 0: there is none.
        gap: session gap, ms.
        line: its entry.
    """
    last, _, change, discount = follow_entry(past_of(h), last, gap, line)
    h.past_orders = np.uint32(np.int64(h.past_orders) + change)
    h.past_discounts += discount
    if line.flags & ORDER_START:
        h.past_order = line.time
    return last


@kernel
def follow_ring(u: History, ledger: Ledger, gap: int) -> Any:
    """Take in the lines of a record's ring; the newest purchase that was not late, ms."""
    n = np.int64(u.head.n)
    last: Any = u.head.evicted_purchase
    oldest: Any = max(n - u.size, 0)
    for rank in range(oldest, n):
        entry = in_slot(u, slot_of(u, rank))
        if entry.flags & LINE:
            last, _, _, _ = follow_entry(ledger, last, gap, entry)
    return last


@kernel
def orders_in_order(
    table: Table,
    rows: I64,
    events: EventColumns,
    gap: int,
    begins: Any,
    change: I64,
    discount: I64,
) -> None:
    """Follow the orders of N events behind all others of their records, which hold a ring only.

    The records' past takes in what the events will push out of the ring; nothing else is changed.

    Args:
        table: the histories.
        rows: record of each event; those of one are adjacent.
        events: in order of row and, of each, in that of histories.
        gap: session gap, ms.
        begins: [N] to be filled with whether the event begins an order.
        change: [N] to be filled with by how many the orders that stand changed.
        discount: [N] to be filled with how much discount the event adds to what was known, 1 /
            AMOUNT_UNIT.
    """
    count, size, line = len(rows), table.size, new_entry()
    i = 0
    while i < count:
        u, end = history(table, NO_ARENA, rows[i]), i
        while end < count and rows[end] == rows[i]:
            end += 1
        n = np.int64(u.head.n)
        ledger = copy_of(past_of(u.head))
        last: Any = follow_ring(u, ledger, gap)
        for e in range(i, end):
            begins[e], change[e], discount[e] = False, 0, 0
            if not is_line(events.type[e]):
                continue
            fill_entry(line, events, e)
            last, begins[e], change[e], discount[e] = follow_entry(ledger, last, gap, line)
        last = u.head.evicted_purchase
        oldest: Any = max(n - size, 0)
        for rank in range(oldest, n + end - i - size):
            if rank < n:
                copy_entry(line, in_slot(u, slot_of(u, rank)))
            else:
                fill_entry(line, events, i + rank - n)
                line.flags |= ORDER_START if begins[i + rank - n] else 0
            if line.flags & LINE:
                last = past_line(u.head, last, gap, line)
        i = end
