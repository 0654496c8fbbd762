"""Which purchases are one order, and which orders were given back: the one definition of both.

A purchase is a line of an order:

- with an order id, of the order with that id, however far apart its lines lie;
- without one, of the order of the purchase before it if no more than the session gap lies between
  them;
- a first id within the session gap after a purchase of an order without any names that order.

Else it begins an order. So two ids are two orders, and an order happens when its first line does.

A refund takes back from the order with its order id, by money, or by units where no price is known.
Without an id, or with one that no purchase had, it takes back from an order without another id: of
those with its item, if it names one, the newest of which just its amount is left, else the newest
that has as much left, else (only with an item) the newest. An order of which nothing is left
was given back and counts no more, until another line joins it.

Only the last `ORDERS_KEPT` orders of a user are told apart, that of the newest line first: a line
of an older one begins an order, and a refund of an older one takes back nothing but money.

Lines come in the order of histories (`models.history.sort_key`), so at one time purchases come
before refunds. `models/kernels/orders.py` has the same rules compiled.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models.history import ORDERS_KEPT

CENT = 0.005
"""Currency units; less than half a cent is nothing."""
ROUNDING = 1e-3
"""Share of the last refund; less than that is what rounding left."""


@dataclass(slots=True)
class Order:
    """What is left of an order."""

    begun: int
    """When its first line came, ms."""
    code: int
    """Hash of its id, 0: it has none yet."""
    units: int = 0
    """Not given back; 0: the order was given back."""
    amount: float = 0.0
    """Not given back, currency units; 0: no price is known."""
    items: int = 0
    """Bit item % 64 per item of its lines."""
    first: int = 0
    """Hash of the id of its first line, where who follows the lines notes it."""
    latest: int = 0
    """When its newest line came, likewise, ms."""


@dataclass(slots=True)
class OrderBook:
    """The last orders of one user, that of the newest line first."""

    gap: int
    """Session gap, ms."""
    last: int = 0
    """Time of the newest purchase, ms; 0: there is none."""
    orders: list[Order] = field(default_factory=list)

    def buy(
        self, time: int, code: int, item: int, amount: float, units: int
    ) -> tuple[Order, bool, int]:
        """Take in a purchase.

        Returns:
            Its order, whether it begins it, and by how many the orders that stand changed: 1 when
            it begins, or stands again.
        """
        near = self.last > 0 and time - self.last <= self.gap
        order = next((one for one in self.orders if code and one.code == code), None)
        if order is None and near and (not code or not self.orders[0].code):
            order = self.orders[0]
        begins = order is None
        if order is None:
            order = Order(time, code)
        else:
            self.orders.remove(order)
        self.orders.insert(0, order)
        del self.orders[ORDERS_KEPT:]
        change = int(order.units == 0)
        order.code = code or order.code
        order.units += units
        order.amount += amount
        order.items |= bit(item)
        self.last = time
        return order, begins, change

    def give_back(self, code: int, item: int, amount: float, units: int) -> Order | None:
        """Take in a refund; the order of which nothing is left by it, None if there is none."""
        order = self.refunded(code, item, amount)
        if order is None or not order.units:
            return None
        left = order.amount - amount if amount else order.amount - share(order, units)
        whole = units >= order.units
        if order.amount:
            gone = left <= ROUNDING * amount + CENT or (whole and 2 * amount > order.amount)
        else:
            gone = whole
        order.units = 0 if gone else max(order.units - units, 1)
        order.amount = 0.0 if gone or not order.amount else left
        return order if gone else None

    def refunded(self, code: int, item: int, amount: float) -> Order | None:
        """The order that a refund is of."""
        if code:
            named = next((one for one in self.orders if one.code == code), None)
            if named is not None:
                return named
        found, best = None, 0
        for one in self.orders:
            if not one.units or (code and one.code) or (item and not one.items & bit(item)):
                continue
            rank = 1 if item else 0
            if one.amount and abs(one.amount - amount) <= CENT:
                rank = 3
            elif not one.amount or amount <= one.amount + CENT:
                rank = 2
            if rank > best:
                found, best = one, rank
        return found


def bit(item: int) -> int:
    """The bit of an item code in `Order.items`; 0 for no item."""
    return 1 << (item % 64) if item else 0


def share(order: Order, units: int) -> float:
    """What ``units`` of an order cost on average, at most all that is left."""
    return order.amount * min(units, order.units) / order.units
