"""Which purchases are one order, and which orders were given back; see `models/orders.py`.

A ledger has the last `ORDERS_KEPT` orders of one user, that of the newest line first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.history import AMOUNT_UNIT, LINE, ORDER_START, ORDERS_KEPT, PURCHASE, REFUND
from models.kernels.jit import kernel
from models.orders import CENT, ROUNDING

if TYPE_CHECKING:
    from models.history import I64
    from models.kernels.columns import Columns, EventColumns

UNIT = np.float64(AMOUNT_UNIT)


class Ledger(NamedTuple):
    """What is left of each order; `ORDERS_KEPT` of them."""

    code: NDArray[np.uint32]
    units: NDArray[np.uint32]
    amount: NDArray[np.float64]
    items: NDArray[np.uint64]


@kernel
def is_line(kind: Any) -> bool:
    """Whether an event of this type is a line of an order."""
    return bool(kind in (PURCHASE, REFUND))


@kernel
def past_of(h: Columns, row: int) -> Ledger:
    """The orders of the lines before all that a record holds, to be changed in place."""
    return Ledger(h.past_code[row], h.past_units[row], h.past_amount[row], h.past_items[row])


@kernel
def copy_of(ledger: Ledger) -> Ledger:
    """The same orders in arrays of their own."""
    return Ledger(
        ledger.code.copy(), ledger.units.copy(), ledger.amount.copy(), ledger.items.copy()
    )


@kernel
def to_front(values: Any, place: int) -> None:
    """Move the value at a place to the front."""
    moved = values[place]
    for at in range(place, 0, -1):
        values[at] = values[at - 1]
    values[0] = moved


@kernel
def _bit(item: Any) -> np.uint64:
    if item == 0:
        return np.uint64(0)
    return np.uint64(1) << np.uint64(np.int64(item) % 64)


@kernel
def buy(
    ledger: Ledger, near: bool, code: Any, item: Any, amount: Any, units: Any
) -> tuple[int, int]:
    """Take in a purchase.

    Args:
        ledger: the orders, changed in place.
        near: whether the user's purchase before it lies within the session gap.
        code: hash of its order id, 0 for none.
        item: hash of its item, 0 for none.
        amount: currency units.
        units: how many.

    Returns:
        (where its order was, -1: it begins one; by how many the orders that stand changed)
    """
    place = -1
    if code:
        for k in range(ORDERS_KEPT):
            if ledger.code[k] == code:
                place = k
                break
    if place < 0 and near and (not code or not ledger.code[0]):
        place = 0
    old = ORDERS_KEPT - 1 if place < 0 else place
    to_front(ledger.code, old)
    to_front(ledger.units, old)
    to_front(ledger.amount, old)
    to_front(ledger.items, old)
    if place < 0:
        ledger.code[0], ledger.units[0] = 0, 0
        ledger.amount[0], ledger.items[0] = 0.0, 0
    change = 1 if ledger.units[0] == 0 else 0
    if code:
        ledger.code[0] = code
    ledger.units[0] += np.uint32(units)
    ledger.amount[0] += np.float64(amount)
    ledger.items[0] |= _bit(item)
    return place, change


@kernel
def _refunded(ledger: Ledger, code: Any, item: Any, amount: Any) -> int:
    """Place of the order that a refund is of, -1 for none."""
    if code:
        for k in range(ORDERS_KEPT):
            if ledger.code[k] == code:
                return k
    wanted, found, best = _bit(item), -1, 0
    for k in range(ORDERS_KEPT):
        if ledger.units[k] == 0 or (code and ledger.code[k]):
            continue
        if wanted and not ledger.items[k] & wanted:
            continue
        left = ledger.amount[k]
        rank = 1 if wanted else 0
        if left > 0 and abs(left - amount) <= CENT:
            rank = 3
        elif left == 0 or amount <= left + CENT:
            rank = 2
        if rank > best:
            found, best = k, rank
    return found


@kernel
def give_back(ledger: Ledger, code: Any, item: Any, amount: Any, units: Any) -> tuple[int, bool]:
    """Take in a refund: (place of its order, -1 for none; whether nothing of it is left now).

    Args:
        ledger: the orders, changed in place.
        code: hash of its order id, 0 for none.
        item: hash of its item, 0 for none.
        amount: currency units, 0: no price is known.
        units: how many.
    """
    money = np.float64(amount)
    k = _refunded(ledger, code, item, money)
    if k < 0 or ledger.units[k] == 0:
        return -1, False
    before, had = ledger.amount[k], np.int64(ledger.units[k])
    given = np.int64(units)
    if money > 0:
        left = before - money
    else:
        left = before - before * np.float64(min(given, had)) / np.float64(had)
    gone: Any = given >= had
    if before > 0:
        gone = left <= ROUNDING * money + CENT or (gone and 2 * money > before)
    rest: Any = max(had - given, 1)
    ledger.units[k] = np.uint32(0) if gone else np.uint32(rest)
    ledger.amount[k] = 0.0 if gone or before == 0 else left
    return k, gone


@kernel
def follow(
    ledger: Ledger, near: bool, kind: Any, code: Any, item: Any, amount: Any, units: Any
) -> tuple[bool, int]:
    """Take in a line: (whether it begins an order; by how many the orders that stand changed)."""
    if kind == PURCHASE:
        place, change = buy(ledger, near, code, item, amount, units)
        return place < 0, change
    _, gone = give_back(ledger, code, item, amount, units)
    return False, -1 if gone else 0


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
) -> int:
    """Take in a line that a record no longer holds; the newest purchase among such lines, ms.

    Args:
        h: the histories.
        row: the record.
        last: the newest purchase before the line, ms; 0: there is none.
        gap: session gap, ms.
        time: of the line, ms.
        kind: its type.
        code: hash of its order id.
        item: hash of its item.
        amount: currency units.
        units: how many.
        flags: of its entry.
    """
    near = last > 0 and time - last <= gap
    _, change = follow(past_of(h, row), near, kind, code, item, amount, units)
    h.past_orders[row] = np.uint32(np.int64(h.past_orders[row]) + change)
    if flags & ORDER_START:
        h.past_order[row] = time
    return time if kind == PURCHASE else last


@kernel
def past_slot(h: Columns, row: int, slot: int, last: int, gap: int) -> int:
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
    """Take in the lines of a record's ring; the newest purchase among all of them, ms."""
    n, size = np.int64(h.n[row]), h.ring_time.shape[1]
    last: Any = h.evicted_purchase[row]
    for rank in range(max(n - size, 0), n):
        slot = rank % size
        if not h.ring_flags[row, slot] & LINE:
            continue
        time, kind = h.ring_time[row, slot], h.ring_type[row, slot]
        follow(
            ledger,
            last > 0 and time - last <= gap,
            kind,
            h.ring_order[row, slot],
            h.ring_item[row, slot],
            h.ring_amount[row, slot],
            h.ring_quantity[row, slot],
        )
        if kind == PURCHASE:
            last = time
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
        events: in order of row, time and id.
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
                last > 0 and events.time[e] - last <= gap,
                events.type[e],
                events.order[e],
                events.item[e],
                np.float32(events.amount[e] / UNIT),
                events.quantity[e],
            )
            if events.type[e] == PURCHASE:
                last = events.time[e]
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
