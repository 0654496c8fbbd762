"""The orders of a record: those before all that it holds, and what later lines make of them.

The reference of what `models/kernels/one_event.py` does with `models/kernels/orders.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.history import (
    LINE,
    ORDER_START,
    ORDERS_KEPT,
    OWED_KEPT,
    PURCHASE,
    START_UNIT,
    STARTS_KEPT,
)
from models.orders import Order, OrderBook

PAST: Final = (
    "past_order",
    "past_orders",
    "past_code",
    "past_units",
    "past_amount",
    "past_items",
    "past_begun",
    "past_starts",
    "past_discounts",
    "past_discount",
)
"""Fields of a record that keep orders of lines before all that it holds."""


@dataclass(slots=True)
class Past:
    """The orders of all lines up to a place in a history."""

    book: OrderBook
    standing: int
    """Orders that were not given back."""
    newest: int
    """When the newest order began, ms."""
    discounts: int
    """Of all orders, each once, 1 / AMOUNT_UNIT."""

    @classmethod
    def of(cls, record: np.void, last: int, gap: int) -> Self:
        """Orders before all that ``record`` holds.

        Args:
            record: the history.
            last: the newest purchase before all that it holds that was not late, ms; 0: none.
            gap: session gap, ms.
        """
        begun = (record["past_begun"].astype(np.int64) * START_UNIT).tolist()
        columns = (record[name].tolist() for name in PAST[2:6])
        orders = [Order(*fields) for fields in zip(begun, *columns, strict=True)]
        for order, discount in zip(orders, record["past_discount"].tolist(), strict=False):
            order.discount = discount
        owed = [one for one in orders[ORDERS_KEPT:] if one.code]
        starts = [start for start in record["past_starts"].tolist() if start]
        book = OrderBook(gap, last, orders[:ORDERS_KEPT], owed, starts)
        counts = (record[name] for name in ("past_orders", "past_order", "past_discounts"))
        return cls(book, *map(int, counts))

    def take_in(self, entries: NDArray[np.void]) -> None:
        """Follow entries in their order and set which of them begin an order."""
        for place in np.flatnonzero(entries["flags"] & LINE).tolist():
            entry = entries[place]
            time, amount = int(entry["time"]), float(entry["amount"])
            line = (int(entry["order"]), int(entry["item"]), amount, int(entry["quantity"]))
            entries["flags"][place] &= ~np.uint8(ORDER_START)
            if entry["type"] != PURCHASE:
                self.standing -= self.book.give_back(*line) is not None
                continue
            order, begins, change = self.book.buy(time, *line)
            self.standing += change
            self.discounts += order.discounted(int(entry["discount"]))
            if begins:
                entries["flags"][place] |= ORDER_START
                self.newest = time

    def keep_in(self, record: np.void) -> None:
        """Make these the orders before all that ``record`` holds."""
        record["past_orders"], record["past_order"] = self.standing, self.newest
        record["past_discounts"] = self.discounts
        owed = [*self.book.owed, *(Order(0, 0) for _ in range(OWED_KEPT))][:OWED_KEPT]
        for place, order in enumerate([*self.book.orders, *owed]):
            record["past_code"][place] = order.code
            record["past_units"][place] = order.units
            record["past_amount"][place] = order.amount
            record["past_items"][place] = order.items
            record["past_begun"][place] = order.begun // START_UNIT
        for place, order in enumerate(self.book.orders):
            record["past_discount"][place] = order.discount
        starts = self.book.starts
        record["past_starts"] = starts + [0] * (STARTS_KEPT - len(starts))
