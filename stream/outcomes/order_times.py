"""When the orders of a user began that were not given back: what outcomes count as returns.

The lines are kept in the order of histories, however they come, and followed by `models.orders`, as
in training: further lines of an order are no return, nor is an order that is given back in time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from copy import deepcopy
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.encoding import encode_event
from models.history import AMOUNT_UNIT, PURCHASE, REFUND
from models.money import AS_THEY_COME, currency_code
from models.orders import OrderBook, late_code

if TYPE_CHECKING:
    from models.money import Rates
    from models.orders import Order
    from schemas.events import Event

__all__ = ["Line", "OrderTimes", "line_of"]


class Line(NamedTuple):
    """A purchase or a refund; lines sort as histories do (`models.history.sort_key`)."""

    time: int
    """ms."""
    kind: int
    """`EventType`: at one time purchases come before refunds."""
    id: int = 0
    """Hash of the event's id."""
    order: int = 0
    """Its code: hash of the order id, 0: none; of a late one `models.orders.late_code`."""
    item: int = 0
    """Hash of the item, 0: none."""
    amount: float = 0.0
    """Currency units, as histories keep them."""
    units: int = 1


def line_of(
    event: Event,
    own: int | None = None,
    rates: Rates = AS_THEY_COME,
    taken: int | None = None,
) -> Line | None:
    """The line that an event is; None if it is neither purchase nor refund.

    Args:
        event: as it counts.
        own: when it happened, ms, where it came late and counts as of when it came.
        rates: convert its amount, as for the worker.
        taken: broker's time of the event, ms; None: after all rates were known.
    """
    if event.code not in (PURCHASE, REFUND):
        return None
    time, event_id, kind, item, _, amount, order, units, _ = encode_event(event)
    if amount and event.currency and rates.currency:
        amounts, _ = rates.convert(
            np.array([amount], np.int64),
            np.array([currency_code(event.currency)], np.uint32),
            np.array([time if own is None else own], np.int64),
            None if taken is None else np.array([taken], np.int64),
        )
        amount = int(amounts[0])
    if own is not None:
        order = late_code(order, own)
    return Line(time, kind, event_id, order, item, float(np.float32(amount / AMOUNT_UNIT)), units)


@dataclass(slots=True)
class _Followed:
    """What lines in their order come to."""

    book: OrderBook
    standing: int = 0
    """Orders that were not given back."""
    begun: set[tuple[int, int]] = field(default_factory=set)
    """(time, id of the first line) of the orders that count."""
    changes: list[tuple[int, int]] = field(default_factory=list)
    """(time, orders that stand from then on)."""
    inner: set[int] = field(default_factory=set)
    """Times of lines that another line of their order follows within the session gap, ms."""

    def take(self, line: Line, window: int) -> None:
        """Follow the next line."""
        fields = (line.order, line.item, line.amount, line.units)
        order: Order | None
        if line.kind == PURCHASE:
            order, begins, change = self.book.buy(line.time, *fields)
            if begins:
                order.first = line.id
            elif 0 < line.time - order.latest <= self.book.gap:
                self.inner.add(order.latest)
            order.latest = line.time
            again = not begins and change and line.time - order.begun <= max(window, self.book.gap)
            # What was given back before it came counts as little as what is given back in time.
            if again or (begins and (order.units or not window)):
                self.begun.add((order.begun, order.first))
        else:
            order = self.book.give_back(*fields)
            change = -(order is not None)
            if order is not None and window and line.time - order.begun <= window:
                self.begun.discard((order.begun, order.first))
        if change:
            self.standing += change
            self.changes.append((line.time, self.standing))


class OrderTimes:
    """The orders of one user, from lines that come in any order."""

    def __init__(self, gap_ms: int, window_ms: int) -> None:
        """Begin without lines.

        Args:
            gap_ms: session gap.
            window_ms: an order that is given back within this time counts as none; 0: each is one.
        """
        self._window = window_ms
        self._lines: list[Line] = []
        self._settled = _Followed(OrderBook(gap_ms))
        self._floor = 0
        self._now: _Followed | None = None
        self._times: list[int] = []

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: Line) -> None:
        """Take in a line; one that is there, or too old, changes nothing."""
        place = bisect_left(self._lines, line[:3])
        known = place < len(self._lines) and self._lines[place][:3] == line[:3]
        if not known and line.time >= self._floor:
            insort(self._lines, line)
            self._now = None

    def forget_before(self, floor: int, most: int) -> None:
        """Keep no lines of before a time, ms, and at most so many: their orders are settled."""
        count = max(bisect_left(self._lines, (floor,)), len(self._lines) - most)
        if count <= 0:
            return
        for line in self._lines[:count]:
            self._settled.take(line, self._window)
        self._floor = self._lines[count - 1].time
        del self._lines[:count]
        # The last ones are what later questions may still go back to.
        self._settled.begun = set(sorted(self._settled.begun)[-1:])
        del self._settled.changes[:-1]
        self._settled.inner.clear()
        self._now = None

    @property
    def times(self) -> list[int]:
        """When orders began that count, ms, ascending."""
        self._follow()
        return self._times

    def goes_on(self, time: int) -> bool:
        """Whether another line follows the one of a time, ms, in the same order and session."""
        return time in self._follow().inner

    def standing(self, time: int) -> int:
        """Orders of up to a time, ms, that had not been given back by then."""
        changes = self._follow().changes
        place = bisect_right(changes, time, key=itemgetter(0)) - 1
        return changes[place][1] if place >= 0 else 0

    def _follow(self) -> _Followed:
        if self._now is None:
            self._now = deepcopy(self._settled)
            for line in self._lines:
                self._now.take(line, self._window)
            self._times = sorted(begun for begun, _ in self._now.begun)
        return self._now
