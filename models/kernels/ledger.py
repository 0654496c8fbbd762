"""What is left of a user's orders as lines come; `models/orders.py` has the rules in Python.

A ledger has the last `ORDERS_KEPT` orders of one user, that of the newest line first, and behind
them what is owed to the last `OWED_KEPT` orders that have not come.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.history import (
    AMOUNT_UNIT,
    I64,
    LATE_LINE,
    LATE_NAMED,
    MOST_UNITS,
    ORDER_BITS,
    ORDERS_KEPT,
    OWED_KEPT,
    OWN_UNIT,
    PURCHASE,
    REFUND,
    START_UNIT,
    STARTS_KEPT,
)
from models.kernels.jit import kernel
from models.orders import CENT, ROUNDING

UNIT = np.float64(AMOUNT_UNIT)
_ALL = ORDERS_KEPT + OWED_KEPT


class Ledger(NamedTuple):
    """What is left of each order, and what is owed: `ORDERS_KEPT` + `OWED_KEPT` places."""

    code: NDArray[np.uint32]
    units: NDArray[np.uint32]
    amount: NDArray[np.float64]
    items: NDArray[np.uint64]
    begun: NDArray[np.uint32]
    """`START_UNIT`; 0: there is no order, or it is not known when it began."""
    discount: I64
    """Of each of `ORDERS_KEPT` orders the largest of its lines, 1 / AMOUNT_UNIT."""
    starts: NDArray[np.uint32]
    """`STARTS_KEPT` starts of orders that stand, the newest first, `START_UNIT`; 0: none."""


@kernel
def is_line(kind: Any) -> bool:
    """Whether an event of this type is a line of an order."""
    return bool(kind in (PURCHASE, REFUND))


@kernel
def late_code(code: Any, own: Any) -> Any:
    """The code of a line that counts as of when it came; see `models.orders.late_code`."""
    if code:
        return np.uint32(LATE_LINE | LATE_NAMED | np.int64(code))
    return np.uint32(LATE_LINE | ((own // OWN_UNIT) & ORDER_BITS))


@kernel
def is_late(code: Any) -> bool:
    """Whether the line of this code counts as of when it came."""
    return bool(np.int64(code) & LATE_LINE)


@kernel
def order_id_of(code: Any) -> Any:
    """The hash of the order id in the code of a line, 0 for none."""
    known = np.int64(code)
    if known & LATE_LINE:
        return known & ORDER_BITS if known & LATE_NAMED else np.int64(0)
    return known


@kernel
def newest_of(last: Any, time: Any, kind: Any, code: Any) -> Any:
    """The newest purchase that was not late once a line has come, ms; ``last``: before it."""
    return time if kind == PURCHASE and not is_late(code) else last


@kernel
def copy_of(ledger: Ledger) -> Ledger:
    """The same orders in arrays of their own."""
    return Ledger(
        ledger.code.copy(),
        ledger.units.copy(),
        ledger.amount.copy(),
        ledger.items.copy(),
        ledger.begun.copy(),
        ledger.discount.copy(),
        ledger.starts.copy(),
    )


@kernel
def put_start(starts: Any, start: Any) -> None:
    """Put in the start of an order; 0: of a time that is not known."""
    at: Any = 0
    while at < STARTS_KEPT and starts[at] > start:
        at += 1
    if at == STARTS_KEPT or start == 0:
        return
    for place in range(STARTS_KEPT - 1, at, -1):
        starts[place] = starts[place - 1]
    starts[at] = start


@kernel
def _take_start(starts: Any, start: Any) -> None:
    at: Any = 0
    while at < STARTS_KEPT and starts[at] != start:
        at += 1
    if start == 0:
        return
    for place in range(at, STARTS_KEPT):
        starts[place] = starts[place + 1] if place + 1 < STARTS_KEPT else np.uint32(0)


@kernel
def to_front(values: Any, place: int, front: int) -> None:
    """Move the value at a place to one before it."""
    moved = values[place]
    for at in range(place, front, -1):
        values[at] = values[at - 1]
    values[front] = moved


@kernel
def _move(ledger: Ledger, place: int, front: int) -> None:
    to_front(ledger.code, place, front)
    to_front(ledger.units, place, front)
    to_front(ledger.amount, place, front)
    to_front(ledger.items, place, front)
    to_front(ledger.begun, place, front)
    if place < ORDERS_KEPT:
        to_front(ledger.discount, place, front)


@kernel
def _put(ledger: Ledger, place: int, code: Any) -> None:
    """Put an order without lines into a place."""
    ledger.code[place], ledger.units[place] = np.uint32(code), np.uint32(0)
    ledger.amount[place], ledger.items[place] = 0.0, np.uint64(0)
    ledger.begun[place] = np.uint32(0)
    if place < ORDERS_KEPT:
        ledger.discount[place] = 0


@kernel
def _bit(item: Any) -> np.uint64:
    if item == 0:
        return np.uint64(0)
    return np.uint64(1) << np.uint64(np.int64(item) % 64)


@kernel
def _add_units(ledger: Ledger, place: int, units: Any) -> None:
    both: Any = min(np.int64(ledger.units[place]) + np.int64(units), MOST_UNITS)
    ledger.units[place] = np.uint32(both)


@kernel
def _place_of(ledger: Ledger, last: Any, time: Any, gap: int, code: Any) -> int:
    """Where the order of a purchase is; -1: it begins one."""
    name, own = order_id_of(code), np.int64(code) & ORDER_BITS
    if name:
        for k in range(ORDERS_KEPT):
            if ledger.code[k] == name:
                return k
    if not is_late(code):
        near = last > 0 and time - last <= gap
        return 0 if near and (not name or not ledger.code[0]) else -1
    if name:
        return -1
    if last > 0 and abs(last // OWN_UNIT - own) * OWN_UNIT <= gap:
        return 0
    for k in range(ORDERS_KEPT):
        apart = abs((np.int64(ledger.code[k]) & ORDER_BITS) - own) * OWN_UNIT
        if is_late(ledger.code[k]) and apart <= gap:
            return k
    return -1


@kernel
def front_of(last: Any, place: Any, code: Any) -> int:
    """Where the order of a purchase goes: behind that of the newest line where it is late."""
    return 1 if is_late(code) and last > 0 and place != 0 else 0


@kernel
def buy(
    ledger: Ledger, last: Any, time: Any, gap: int, code: Any, item: Any, amount: Any, units: Any
) -> tuple[int, int, float]:
    """Take in a purchase.

    Args:
        ledger: the orders, changed in place.
        last: the user's newest purchase before it that was not late, ms; 0: there is none.
        time: of the purchase, ms.
        gap: session gap, ms.
        code: of its order.
        item: hash of its item, 0 for none.
        amount: currency units.
        units: how many.

    Returns:
        (where its order was, -1: it begins one; by how many the orders that stand changed; how
        much of it was owed, currency units). Its order is at `front_of` now.
    """
    place, name = _place_of(ledger, last, time, gap, code), order_id_of(code)
    front = front_of(last, place, code)
    _move(ledger, ORDERS_KEPT - 1 if place < 0 else place, front)
    if place < 0:
        _put(ledger, front, code if is_late(code) and not name else 0)
        ledger.begun[front] = np.uint32(time // START_UNIT)
    change: Any = -1 if ledger.units[front] > 0 else 0
    if name:
        ledger.code[front] = np.uint32(name)
    _add_units(ledger, front, units)
    ledger.amount[front] += np.float64(amount)
    ledger.items[front] |= _bit(item)
    owed: Any = _settle(ledger, front) if name else 0.0
    if ledger.units[front] > 0:
        change += 1
    if change > 0:
        put_start(ledger.starts, ledger.begun[front])
    elif change < 0:
        _take_start(ledger.starts, ledger.begun[front])
    return place, change, owed


@kernel
def _settle(ledger: Ledger, place: int) -> Any:
    """Take back what is owed to an order that a line has just joined; how much, currency units."""
    k = ORDERS_KEPT
    while k < _ALL and ledger.code[k] != ledger.code[place]:
        k += 1
    if k == _ALL:
        return 0.0
    units, worth = np.int64(ledger.units[place]), ledger.amount[place]
    due, given = ledger.amount[k], np.int64(ledger.units[k])
    _take(ledger, place, due, given)
    if worth > 0 and due > 0:
        ledger.amount[k] = due - worth
        done = due - worth <= ROUNDING * due + CENT
    else:
        done = given <= units
    rest: Any = max(given - units, 1)
    ledger.units[k] = np.uint32(rest)
    if done or ledger.units[place] > 0:
        for at in range(k, _ALL - 1):
            ledger.code[at], ledger.units[at] = ledger.code[at + 1], ledger.units[at + 1]
            ledger.amount[at] = ledger.amount[at + 1]
        _put(ledger, _ALL - 1, 0)
    return worth - ledger.amount[place]


@kernel
def _take(ledger: Ledger, place: int, money: Any, given: Any) -> None:
    """Give back so much of an order; nothing may be left."""
    before, had = ledger.amount[place], np.int64(ledger.units[place])
    if money > 0:
        left = before - money
    else:
        left = before - before * np.float64(min(given, had)) / np.float64(had)
    gone: Any = given >= had
    if before > 0:
        gone = left <= ROUNDING * money + CENT or (gone and 2 * money > before)
    rest: Any = max(had - given, 1)
    ledger.units[place] = np.uint32(0) if gone else np.uint32(rest)
    ledger.amount[place] = 0.0 if gone or before == 0 else left


@kernel
def _refunded(ledger: Ledger, name: Any, item: Any, amount: Any) -> int:
    """Place of the order that a refund is of, -1 for none."""
    if name:
        for k in range(ORDERS_KEPT):
            if ledger.code[k] == name:
                return k
    wanted, found, best = _bit(item), -1, 0
    for k in range(ORDERS_KEPT):
        if ledger.units[k] == 0 or (name and order_id_of(ledger.code[k])):
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
def _owe(ledger: Ledger, name: Any, money: Any, units: Any) -> None:
    """Keep what a refund takes back from an order that has not come."""
    k = ORDERS_KEPT
    while k < _ALL and ledger.code[k] != name:
        k += 1
    if k == _ALL:
        k = ORDERS_KEPT
        _move(ledger, _ALL - 1, k)
        _put(ledger, k, name)
    _add_units(ledger, k, units)
    ledger.amount[k] += money


@kernel
def give_back(ledger: Ledger, code: Any, item: Any, amount: Any, units: Any) -> tuple[int, bool]:
    """Take in a refund: (place of its order, -1 for none; whether nothing of it is left now).

    Args:
        ledger: the orders, changed in place.
        code: of its order.
        item: hash of its item, 0 for none.
        amount: currency units, 0: no price is known.
        units: how many.
    """
    money, name = np.float64(amount), order_id_of(code)
    k = _refunded(ledger, name, item, money)
    if k < 0 and name:
        _owe(ledger, name, money, units)
    if k < 0 or ledger.units[k] == 0:
        return -1, False
    _take(ledger, k, money, np.int64(units))
    if ledger.units[k] == 0:
        _take_start(ledger.starts, ledger.begun[k])
    return k, bool(ledger.units[k] == 0)


@kernel
def follow(
    ledger: Ledger,
    last: Any,
    time: Any,
    gap: int,
    kind: Any,
    code: Any,
    item: Any,
    amount: Any,
    units: Any,
    discount: Any,
) -> tuple[bool, int, int]:
    """Take in a line.

    Returns:
        (whether it begins an order; by how many the orders that stand changed; how much discount it
        adds to that of its order, 1 / AMOUNT_UNIT)
    """
    if kind == PURCHASE:
        place, change, _ = buy(ledger, last, time, gap, code, item, amount, units)
        front = front_of(last, place, code)
        known = ledger.discount[front]
        ledger.discount[front] = max(known, discount)
        return place < 0, change, ledger.discount[front] - known
    _, gone = give_back(ledger, code, item, amount, units)
    return False, -1 if gone else 0, 0
