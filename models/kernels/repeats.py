"""Whether an event has come before: by its id, and by all that is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.history import HISTORY, LINE, ON_TIME, RETIMED
from models.kernels.jit import kernel
from models.kernels.ledger import order_id_of
from models.kernels.overflow import find_overflow
from models.kernels.places import in_arena, in_slot

if TYPE_CHECKING:
    from models.kernels.places import History

CONTENT: Final = (
    "event_time",
    "type",
    "item_id",
    "category_id",
    "price",
    "order_id",
    "quantity",
    "order_discount",
)
"""Fields by which two events of one id are told apart; bit i of what differs is field i. The price
is that of all units. Discounts differ where both contain one: older records kept none."""
_NOT_ITS_OWN: Final = 255 & ~HISTORY & ~ON_TIME


@kernel
def find(u: History, event_id: np.uint64) -> Any:
    """Where the event of this id hash is held: its slot, or ring size + its place in the overflow.

    -1 where none is held.
    """
    used: Any = min(np.int64(u.head.n), u.size)
    for slot in range(used):
        if in_slot(u, slot).id == event_id:
            return slot
    place = find_overflow(u, event_id)
    return u.size + place if place >= 0 else -1


@kernel
def differing(u: History, where: int, event: Any, moved: Any) -> Any:
    """Which fields of an event differ from those of the held one of its id (`find`), as bits.

    Args:
        u: the history.
        where: the held one.
        event: the event, as an entry.
        moved: its marks, as of `EventColumns.moved`.
    """
    if where < u.size:
        held = in_slot(u, where)
    else:
        held = in_arena(u, u.segment.base + u.segment.head + where - u.size)
    found: Any = 0
    if held.time != event.time and not moved & _NOT_ITS_OWN and not held.flags & RETIMED:
        found |= 1
    if held.type != event.type:
        found |= 2
    if held.item != event.item:
        found |= 4
    if held.category != event.category:
        found |= 8
    if held.amount != event.amount:
        found |= 16
    if held.flags & LINE and held.type == event.type:
        if order_id_of(held.order) != event.order:
            found |= 32
        if held.quantity != event.quantity:
            found |= 64
        if held.discount > 0 and event.discount > 0 and held.discount != event.discount:
            found |= 128
    return found
