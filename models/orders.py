"""Which purchases are one order, and which orders were given back: the one definition of both.

A purchase is a line of an order:

- with an order id, of the order with that id, however far apart its lines lie;
- without one, of the order of the purchase before it if no more than the session gap lies between
  them;
- a first id within the session gap after a purchase of an order without any names that order.

Else it begins an order. So two ids are two orders, and an order happens when its first line does.

A late line (`models.kernels.columns.Limits.correction`) counts as of when it came to be known, but
what happened within a session gap of it is told by its own time, which its code keeps to
`OWN_UNIT`: without an id it is a line of the order of the newest other purchase, or of a late order
without an id, if that lies within the session gap of its own time. It is near to no line that came
in time: what somebody buys now is no line of what they bought yesterday and we learn of now.

A refund takes back from the order with its order id, by money, or by units where no price is known.
Without an id, or with one that no purchase had, it takes back from an order without another id: of
those with its item, if it names one, the newest of which just its amount is left, else the newest
that has as much left, else (only with an item) the newest. An order of which nothing is left
was given back and counts no more, until another line joins it.

A refund with an order id that takes nothing back is owed: it comes before its order, which it takes
back from as the lines of that come. The last `OWED_KEPT` such ids are kept.

Only the last `ORDERS_KEPT` orders of a user are told apart, that of the newest line first (behind
it those of late lines): a line of an older one begins an order, and a refund of an older one takes
back nothing but money.

Known are the starts of the last `STARTS_KEPT` orders that stand, the times of their first lines.
Giving an order back removes its start; a line that makes it stand again puts it back.

Each line may contain the discount of its whole order (`order_discount`), which counts once: it is
the largest of the lines so far. A refund leaves it as it was: it was given on what was bought.

Lines come in the order of histories (`models.history.sort_key`), so at one time purchases come
before refunds. `models/kernels/ledger.py` has the same rules compiled.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from operator import neg

from models.history import (
    LATE_LINE,
    LATE_NAMED,
    MOST_UNITS,
    ORDER_BITS,
    ORDERS_KEPT,
    OWED_KEPT,
    OWN_UNIT,
    START_UNIT,
    STARTS_KEPT,
)

CENT = 0.005
"""Currency units; less than half a cent is nothing."""
ROUNDING = 1e-3
"""Share of the last refund; less than that is what rounding left."""


def late_code(code: int, own: int) -> int:
    """The code of a line that counts as of when it came.

    Args:
        code: hash of its order id, 0 for none.
        own: when it happened, ms.
    """
    return LATE_LINE | (LATE_NAMED | code if code else own // OWN_UNIT & ORDER_BITS)


def order_id_of(code: int) -> int:
    """The hash of the order id in the code of a line, 0 for none."""
    if code & LATE_LINE:
        return code & ORDER_BITS if code & LATE_NAMED else 0
    return code


@dataclass(slots=True)
class Order:
    """What is left of an order, or is owed to one that has not come."""

    begun: int
    """When its first line came, ms."""
    code: int
    """Hash of its id, 0: it has none yet. Of a late order without an id the code of its line."""
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
    discount: int = 0
    """The largest of its lines, 1 / AMOUNT_UNIT."""

    def discounted(self, discount: int) -> int:
        """Take in the discount that a line contains; how much more it is, 1 / AMOUNT_UNIT."""
        more = max(discount - self.discount, 0)
        self.discount += more
        return more

    def take(self, amount: float, units: int) -> None:
        """Give back so much of it; nothing may be left."""
        left = self.amount - amount if amount else self.amount - share(self, units)
        gone = units >= self.units
        if self.amount:
            gone = left <= ROUNDING * amount + CENT or (gone and 2 * amount > self.amount)
        self.units = 0 if gone else max(self.units - units, 1)
        self.amount = 0.0 if gone or not self.amount else left


@dataclass(slots=True)
class OrderBook:
    """The last orders of one user, that of the newest line first."""

    gap: int
    """Session gap, ms."""
    last: int = 0
    """Time of the newest purchase that was not late, ms; 0: there is none."""
    orders: list[Order] = field(default_factory=list)
    owed: list[Order] = field(default_factory=list)
    """What refunds take back from orders that have not come, the newest first."""
    starts: list[int] = field(default_factory=list)
    """When the newest orders that stand began, the newest first, `START_UNIT`."""

    def buy(
        self, time: int, code: int, item: int, amount: float, units: int
    ) -> tuple[Order, bool, int]:
        """Take in a purchase.

        Returns:
            Its order, whether it begins it, and by how many the orders that stand changed: 1 when
            it begins, or stands again, unless as much of it was given back before.
        """
        late, name = code & LATE_LINE, order_id_of(code)
        place = self._place(time, code)
        begins = place is None
        order = Order(time, 0 if name or not late else code)
        if place is not None:
            order = self.orders.pop(place)
        self.orders.insert(1 if late and self.last and place != 0 else 0, order)
        del self.orders[ORDERS_KEPT:]
        stood = order.units > 0
        order.code = name or order.code
        order.units = min(order.units + units, MOST_UNITS)
        order.amount += amount
        order.items |= bit(item)
        if name:
            self._settle(order)
        if not late:
            self.last = time
        change = (order.units > 0) - stood
        if change:
            self._note_start(order.begun // START_UNIT, change)
        return order, begins, change

    def _note_start(self, start: int, change: int) -> None:
        """Put in or take out the start of an order; 0: of a time that is not known."""
        if change > 0 and start:
            self.starts.insert(bisect_left(self.starts, -start, key=neg), start)
            del self.starts[STARTS_KEPT:]
        elif start in self.starts:
            self.starts.remove(start)

    def _place(self, time: int, code: int) -> int | None:
        """Where the order of a purchase is; None: it begins one."""
        name, own = order_id_of(code), code & ORDER_BITS
        for place, one in enumerate(self.orders):
            if name and one.code == name:
                return place
        if not code & LATE_LINE:
            near = self.last > 0 and time - self.last <= self.gap
            return 0 if near and not (name and self.orders[0].code) else None
        if name:
            return None
        if self.last and abs(self.last // OWN_UNIT - own) * OWN_UNIT <= self.gap:
            return 0
        for place, one in enumerate(self.orders):
            apart = abs((one.code & ORDER_BITS) - own) * OWN_UNIT
            if one.code & LATE_LINE and apart <= self.gap:
                return place
        return None

    def _settle(self, order: Order) -> None:
        """Take back what is owed to an order that a line has just joined."""
        owed = next((one for one in self.owed if one.code == order.code), None)
        if owed is None:
            return
        units, worth, due = order.units, order.amount, owed.amount
        order.take(owed.amount, owed.units)
        if worth and due:
            owed.amount -= worth
            done = owed.amount <= ROUNDING * due + CENT
        else:
            done = owed.units <= units
        owed.units = max(owed.units - units, 1)
        if done or order.units:
            self.owed.remove(owed)

    def give_back(self, code: int, item: int, amount: float, units: int) -> Order | None:
        """Take in a refund; the order of which nothing is left by it, None if there is none."""
        name = order_id_of(code)
        order = self.refunded(name, item, amount)
        if order is None and name:
            self._owe(name, amount, units)
        if order is None or not order.units:
            return None
        order.take(amount, units)
        if order.units:
            return None
        self._note_start(order.begun // START_UNIT, -1)
        return order

    def _owe(self, name: int, amount: float, units: int) -> None:
        owed = next((one for one in self.owed if one.code == name), None)
        if owed is None:
            owed = Order(0, name)
            self.owed = [owed, *self.owed][:OWED_KEPT]
        owed.units = min(owed.units + units, MOST_UNITS)
        owed.amount += amount

    def refunded(self, name: int, item: int, amount: float) -> Order | None:
        """The order that a refund is of; ``name``: hash of its order id."""
        if name:
            named = next((one for one in self.orders if one.code == name), None)
            if named is not None:
                return named
        found, best = None, 0
        for one in self.orders:
            other = name and order_id_of(one.code)
            if not one.units or other or (item and not one.items & bit(item)):
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
