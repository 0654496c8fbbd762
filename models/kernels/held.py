"""The orders of the events that a record holds one by one, in the overflow and the ring.

The reference is ``models/inputs/lines.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.history import LINE, ORDER_START, PURCHASE, REFUND
from models.kernels.jit import kernel
from models.kernels.ledger import copy_of, is_late
from models.kernels.orders import follow_entry, past_of
from models.kernels.places import held_from, of_rank

if TYPE_CHECKING:
    from models.kernels.places import History


@kernel
def _last_past(u: History) -> Any:
    """The newest purchase, not late, before all that a record holds, ms; 0: there is none."""
    return u.segment.purchase if u.head.overflow else u.head.evicted_purchase


@kernel
def follow_newest(u: History, line: Any, gap: int) -> tuple[bool, int, int]:
    """What a line behind all others does.

    Returns:
        (begins an order, change of the orders that stand, discount that was not known, 1 /
        AMOUNT_UNIT)
    """
    h, code = u.head, line.order
    last = h.last_purchase
    if line.type == PURCHASE and h.counts[REFUND] == 0:
        # Nothing was given back: mostly the purchase before it tells, without all the others.
        if not code and (last == 0 or line.time - last > gap):
            return True, 1, line.discount
        for rank in range(np.int64(h.n) - 1, held_from(u) - 1, -1):
            entry = of_rank(u, rank)
            if entry.type == PURCHASE:
                same = entry.order == code if code else not is_late(entry.order)
                if same and line.discount <= entry.discount:
                    return False, 0, 0
                break
    ledger, before = copy_of(past_of(h)), _last_past(u)
    for rank in range(held_from(u), np.int64(h.n)):
        entry = of_rank(u, rank)
        if entry.flags & LINE:
            before, _, _, _ = follow_entry(ledger, before, gap, entry)
    _, begins, change, discount = follow_entry(ledger, before, gap, line)
    return begins, change, discount


@kernel
def follow_held(u: History, gap: int) -> None:
    """Recompute which held lines begin an order, the orders that stand, and their discounts."""
    h = u.head
    ledger, before = copy_of(past_of(h)), _last_past(u)
    standing: Any = np.int64(h.past_orders)
    newest, discounts = h.past_order, h.past_discounts
    for rank in range(held_from(u), np.int64(h.n)):
        entry = of_rank(u, rank)
        if not entry.flags & LINE:
            continue
        before, begins, change, discount = follow_entry(ledger, before, gap, entry)
        standing += change
        discounts += discount
        if begins:
            newest = entry.time
        entry.flags = (entry.flags & ~np.uint8(ORDER_START)) | np.uint8(
            ORDER_START if begins else 0
        )
    h.orders, h.last_order, h.discount = np.uint32(standing), newest, discounts
