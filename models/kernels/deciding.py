"""Which events decide labels: of the purchases of an order the first, unless it was given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.history import ORDERS_KEPT, PURCHASE, REFUND
from models.kernels.jit import kernel
from models.kernels.ledger import (
    UNIT,
    buy,
    copy_of,
    front_of,
    give_back,
    newest_of,
    to_front,
)
from models.kernels.orders import follow_ring, past_of
from models.kernels.places import NO_ARENA, history

if TYPE_CHECKING:
    from models.history import I64
    from models.kernels.columns import EventColumns
    from models.kernels.places import Table


@kernel
def deciding_orders(
    table: Table,
    rows: I64,
    events: EventColumns,
    gap: int,
    window: int,
    counts: Any,
    gone: Any,
) -> I64:
    """Say of N events behind all that their records hold which decide labels.

    Args:
        table: the histories, which hold a ring only; not changed.
        rows: record of each event; those of one are adjacent.
        events: in order of row and, of each, in that of histories.
        gap: session gap, ms.
        window: an order that is given back within this time after its first line does not count,
            ms; 0: all count.
        counts: [N] to be filled: False for purchases that begin no order.
        gone: [N] to be filled: True at the first line of an order that was given back in time.

    Returns:
        [N] the amount that each event stands for, 1 / AMOUNT_UNIT: at the first line of an order
        what its lines cost that came in the window (the session gap without one), less what was
        given back in it; 0 at its other lines.
    """
    count = len(rows)
    amounts = np.zeros(count, np.int64)
    first = np.empty(ORDERS_KEPT, np.int64)
    i = 0
    while i < count:
        row = rows[i]
        u = history(table, NO_ARENA, row)
        ledger = copy_of(past_of(u.head))
        last: Any = follow_ring(u, ledger, gap)
        first[:] = -1
        while i < count and rows[i] == row:
            time, kind = events.time[i], events.type[i]
            counts[i], gone[i] = True, False
            amount = np.float32(events.amount[i] / UNIT)
            if kind == PURCHASE:
                item, units, code = events.item[i], events.quantity[i], events.order[i]
                place, change, owed = buy(ledger, last, time, gap, code, item, amount, units)
                front = front_of(last, place, code)
                to_front(first, ORDERS_KEPT - 1 if place < 0 else place, front)
                if place < 0:
                    first[front] = i
                begun, last = first[front], newest_of(last, time, kind, code)
                counts[i] = place < 0
                if begun >= 0 and time - events.time[begun] <= max(window, gap):
                    amounts[begun] += events.amount[i]
                    if change:
                        gone[begun] = False  # a line came instead of what was given back
                    if owed > 0 and window > 0:
                        amounts[begun] = max(amounts[begun] - np.int64(np.rint(owed * UNIT)), 0)
                    if ledger.units[front] == 0:  # given back before it came
                        amounts[begun], gone[begun] = 0, True
            elif kind == REFUND:
                had = ledger.amount.copy()
                item, units = events.item[i], events.quantity[i]
                place, whole = give_back(ledger, events.order[i], item, amount, units)
                begun = first[place] if place >= 0 else -1
                if begun >= 0 and time - events.time[begun] <= window:
                    back = np.int64(np.rint((had[place] - ledger.amount[place]) * UNIT))
                    amounts[begun] = 0 if whole else max(amounts[begun] - back, 0)
                    gone[begun] = gone[begun] or whole
            else:
                amounts[i] = events.amount[i]
            i += 1
    return amounts
