"""Whether an event has come before: by its id, and by all that is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.history import AMOUNT_UNIT, HISTORY, ON_TIME, PURCHASE, REFUND, RETIMED
from models.kernels.jit import kernel, part
from models.kernels.ledger import order_id_of
from models.kernels.overflow import find_overflow

if TYPE_CHECKING:
    from models.kernels.columns import Columns, EventColumns
    from models.kernels.overflow import OverflowColumns

CONTENT: Final = (
    "event_time",
    "type",
    "item_id",
    "category_id",
    "price",
    "order_id",
    "quantity",
)
"""Fields by which two events of one id are told apart; bit i of what differs is field i. The price
is that of all units."""
_UNIT = np.float64(AMOUNT_UNIT)
_NOT_ITS_OWN: Final = 255 & ~HISTORY & ~ON_TIME


@part
def find(h: Columns, o: OverflowColumns, row: int, event_id: np.uint64) -> Any:
    """Where the event of this id hash is held: its slot, or ring size + its place in the overflow.

    -1 where none is held.
    """
    size = h.ring_time.shape[1]
    used = min(np.int64(h.n[row]), size)
    for slot in range(used):
        if h.ring_id[row, slot] == event_id:
            return slot
    place = find_overflow(h, o, row, event_id)
    return size + place if place >= 0 else -1


@kernel
def differing(
    h: Columns, o: OverflowColumns, row: int, where: int, events: EventColumns, i: int
) -> Any:
    """Which fields of an event differ from those of the held one of its id (`find`), as bits."""
    size = h.ring_time.shape[1]
    if where < size:
        time, kind, flags = (
            h.ring_time[row, where],
            h.ring_type[row, where],
            h.ring_flags[row, where],
        )
        item, category = h.ring_item[row, where], h.ring_category[row, where]
        amount, order = h.ring_amount[row, where], h.ring_order[row, where]
        quantity = h.ring_quantity[row, where]
    else:
        at = o.base[row] + o.head[row] + where - size
        time, kind, flags = o.time[at], o.type[at], o.flags[at]
        item, category = o.item[at], o.category[at]
        amount, order, quantity = o.amount[at], o.order[at], o.quantity[at]
    found: Any = 0
    if time != events.time[i] and not events.moved[i] & _NOT_ITS_OWN and not flags & RETIMED:
        found |= 1
    if kind != events.type[i]:
        found |= 2
    if item != events.item[i]:
        found |= 4
    if category != events.category[i]:
        found |= 8
    if amount != np.float32(events.amount[i] / _UNIT):
        found |= 16
    if kind in (PURCHASE, REFUND) and kind == events.type[i]:
        if order_id_of(order) != events.order[i]:
            found |= 32
        if quantity != events.quantity[i]:
            found |= 64
    return found
