"""A user's history: its NumPy layout and the rules that change it.

The history is canonical: a pure function of the *set* of accepted events. Any arrival order within
the grace, and any duplication, ends in the same bytes. Serving keeps it inside the user record
(``stream/pipeline/state.py``); training rebuilds it from the log with the very same functions, so
that both see the same features.

The ring holds the last R events; the event of rank r (0-based, in the order of `sort_key`) sits in
slot ``r % R``. While all R of them are within the grace of the latest, an event may
still belong before them: those that left the ring are then kept in the overflow
(``models/overflow.py``) as long as they are within the grace, and one more, which the next goes on
from. What lies outside is kept only in forms that do not depend on order (integer counts and sums,
first and last times) or that can be repaired when an event is inserted (orders, sessions).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.events import TYPE_CODES

I64 = NDArray[np.int64]
Records = NDArray[np.void]

PURCHASE: Final = TYPE_CODES["purchase"]
REFUND: Final = TYPE_CODES["refund"]

SESSION_START: Final = 1
ORDER_START: Final = 2
LINE: Final = 4
"""Flag of an entry that is a line of an order: a purchase, or a refund."""
DISCOUNTED: Final = 64
"""Flag of an entry that is a purchase with a discount of its order."""
ON_TIME: Final = 32
"""Mark of an event, not of an entry: it came when others say that it happened. A latest event of
its user that lies ahead of all other users does not make it late."""
RETIMED: Final = 8
"""Flag of an entry that came after the grace and counts as of when it came, see `Limits`."""
HISTORY: Final = 16
"""Flag of an entry that reached Kafka long after it happened: history that was loaded. It is late
when it is older than its user's newest history by more than the grace, whatever live events there
are, as long as it belongs into the ring."""
ORDERS_KEPT: Final = 8
"""Different orders of a user that are told apart: a line joins, and a refund takes back, only one
of the last so many (the order of the newest line first)."""
OWED_KEPT: Final = 4
"""Orders of a user, at most, that have not come and that a refund has taken back from already."""
STARTS_KEPT: Final = 16
"""Orders of a user, at most, whose start is known: the newest that were not given back."""
START_UNIT: Final = 1_000
"""ms; starts of orders are kept in this unit, so that times up to the year 2106 fit."""
MOST_UNITS: Final = 2**32 - 1
"""Units of an order are counted up to this."""
ORDER_BITS: Final = 2**30 - 1
"""The bits of an order id's hash in the code of a line."""
LATE_LINE: Final = 2**31
"""Bit of the code of a line that came after the grace and counts as of when it came. The others are
`LATE_NAMED` and the hash of its order id or, where it has none, its own time in `OWN_UNIT`."""
LATE_NAMED: Final = 2**30
OWN_UNIT: Final = 4_000
"""ms; so that times up to the year 2106 fit into `ORDER_BITS`."""

TYPE_SLOTS: Final = 8
"""Slots of the per-type counters; slot 0 stays empty, a type's code is its slot."""

AMOUNT_UNIT: Final = 10_000
"""Amounts are kept as integers of 1/10,000 currency unit: integer sums do not depend on order."""

ENTRY: Final = np.dtype(
    [
        ("time", "<i8"),  # event time, ms since the epoch
        ("id", "<u8"),  # xxh3-64 of event_id
        ("item", "<u4"),  # hash of item_id, 0 = none
        ("session_age", "<u4"),  # ms since the start of its session
        ("amount", "<f4"),  # price x quantity, currency units
        ("category", "<u2"),  # hash of category_id, 0 = none
        ("type", "u1"),  # schemas.events.TYPE_CODES
        ("flags", "u1"),  # SESSION_START | ORDER_START | LINE | RETIMED | HISTORY | DISCOUNTED
        ("order", "<u4"),  # code of a line, see models/orders.py, 0 = no order id
        ("quantity", "<u4"),  # units of purchases and refunds, else 0
        ("discount", "<i8"),  # of the order of a purchase, 1 / AMOUNT_UNIT; 0 = none is known
    ]
)

HEADER: Final[list[tuple[str, str] | tuple[str, str, tuple[int]]]] = [
    ("first_time", "<i8"),
    ("last_time", "<i8"),
    ("last_id", "<u8"),
    ("session_start", "<i8"),
    ("first_purchase", "<i8"),
    ("last_purchase", "<i8"),
    ("evicted_time", "<i8"),  # newest event that left the ring
    ("evicted_purchase", "<i8"),  # newest purchase, not late, that left the ring
    ("last_order", "<i8"),  # when the newest order began
    ("past_order", "<i8"),  # when the newest order began of those whose first line is not held
    ("spend", "<i8"),  # purchases less refunds, 1 / AMOUNT_UNIT
    ("refunded", "<i8"),  # refunds alone, likewise
    ("discount", "<i8"),  # discounts of orders, likewise, see models/orders.py
    ("past_discounts", "<i8"),  # likewise, of the lines before all that are held
    ("counts", "<u4", (TYPE_SLOTS,)),
    ("n", "<u4"),  # accepted events
    ("orders", "<u4"),  # orders that were not given back, see models/orders.py
    ("sessions", "<u4"),
    ("overflow", "<u4"),  # entries kept beyond the ring, see models/overflow.py
    ("past_orders", "<u4"),  # orders, of the lines before all that are held
    ("reserved", "<u4"),
    # The orders of the lines before all that are held, that of the newest line first; behind them
    # what is owed to orders that have not come, the newest first:
    ("past_code", "<u4", (ORDERS_KEPT + OWED_KEPT,)),  # hash of order_id, 0 = none
    ("past_units", "<u4", (ORDERS_KEPT + OWED_KEPT,)),  # not given back yet
    ("past_amount", "<f8", (ORDERS_KEPT + OWED_KEPT,)),  # likewise, currency units
    ("past_items", "<u8", (ORDERS_KEPT + OWED_KEPT,)),  # bit item % 64 per item of its lines
    ("past_begun", "<u4", (ORDERS_KEPT + OWED_KEPT,)),  # when each began, START_UNIT; 0 = unknown
    # Starts of the newest orders before all that is held that stand, the newest first, START_UNIT:
    ("past_starts", "<u4", (STARTS_KEPT,)),  # 0 = none
    ("past_discount", "<i8", (ORDERS_KEPT,)),  # of each of these orders, 1 / AMOUNT_UNIT
]


def history_dtype(ring: int) -> np.dtype[np.void]:
    """The layout of a history alone, with ``ring`` slots."""
    return np.dtype([*HEADER, ("ring", ENTRY, (ring,))])


@dataclass(frozen=True, slots=True)
class SessionRules:
    """When a session ends."""

    gap: int = 1_800_000
    """A pause longer than this starts a new session (and a new order), in ms."""
    longest: int = 86_400_000
    """A session older than this is split, in ms; at most 2**32 - 1."""


_UNKNOWN: Final[I64] = np.empty(0, np.int64)
"""Stands for discounts of which none is known."""


@dataclass(slots=True)
class Events:
    """Events as columns of equal length N, the form in which they enter a history."""

    time: I64
    id: NDArray[np.uint64]
    type: NDArray[np.uint8]
    item: NDArray[np.uint32]
    category: NDArray[np.uint16]
    amount: I64
    """Price x quantity in 1 / AMOUNT_UNIT, never negative."""
    order: NDArray[np.uint32]
    """Hash of order_id, 0 = none; of late lines see `models.orders.late_code`."""
    quantity: NDArray[np.uint32]
    """Units, at least 1."""
    discount: I64 = field(default_factory=lambda: _UNKNOWN)
    """What the whole order of a purchase costs less than its lines, 1 / AMOUNT_UNIT; never
    negative, 0 = none is known. Left out: none is."""

    def __post_init__(self) -> None:
        """Fill in that no discounts are known."""
        if self.discount is _UNKNOWN:
            self.discount = np.zeros(len(self.time), np.int64)

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: NDArray[np.intp] | slice) -> Events:
        """The events at ``index``, in that order."""
        return Events(*(getattr(self, name)[index] for name in self.__slots__))

    @staticmethod
    def none() -> Events:
        """Columns without events."""
        return Events(*(np.empty(0, kind) for kind in EVENT_COLUMNS.values()))


EVENT_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "time": np.int64,
    "id": np.uint64,
    "type": np.uint8,
    "item": np.uint32,
    "category": np.uint16,
    "amount": np.int64,
    "order": np.uint32,
    "quantity": np.uint32,
    "discount": np.int64,
}
"""Columns of ``Events`` in their order -> their types."""


@dataclass(slots=True)
class Snapshot:
    """The aggregates of N histories, each at one moment (``counts`` is N x TYPE_SLOTS)."""

    n: I64
    counts: I64
    spend: I64
    refunded: I64
    discount: I64
    orders: I64
    sessions: I64
    first_time: I64
    last_time: I64
    session_start: I64
    first_purchase: I64
    last_purchase: I64
    last_order: I64

    def take(self, index: NDArray[np.intp] | slice) -> Snapshot:
        """The rows at ``index``, in that order."""
        return Snapshot(*(getattr(self, name)[index] for name in self.__slots__))

    @staticmethod
    def join(parts: list[Snapshot]) -> Snapshot:
        """The rows of all parts, one after the other."""
        return Snapshot(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in Snapshot.__slots__)
        )


@dataclass(slots=True)
class Trace:
    """What N events did to their histories: per event, the state just after it."""

    events: Events
    first: NDArray[np.bool_]
    """The event is its user's first."""
    gap: I64
    """ms since the user's event before it, 0 for the first."""
    session_age: I64
    snapshot: Snapshot
    begins: NDArray[np.bool_]
    """The event is the first line of an order."""


def snapshot(records: Records, rows: NDArray[np.intp] | slice = slice(None)) -> Snapshot:
    """The aggregates of ``records[rows]`` as they are now."""

    def column(name: str) -> I64:
        return records[name][rows].astype(np.int64)

    return Snapshot(*(column(name) for name in Snapshot.__slots__))


def chronological(record: np.void) -> NDArray[np.void]:
    """The used ring entries of one record, oldest first (a copy of at most R entries)."""
    ring: NDArray[np.void] = record["ring"]
    n, size = int(record["n"]), len(ring)
    if n <= size:
        return ring[:n].copy()
    return np.roll(ring, -(n % size))


def history_bytes(record: np.void, overflow: NDArray[np.void] | None = None) -> bytes:
    """The canonical bytes of one history: its header, then its entries oldest first.

    ``overflow``: the entries beyond the ring, where the record says that there are any. Whether an
    event was loaded as history is no part of them: it says how it came, not what it is.
    """
    head = np.zeros(1, np.dtype(HEADER))
    for name in head.dtype.names or ():
        head[name] = record[name]
    parts = [chronological(record)] if overflow is None else [overflow, chronological(record)]
    entries = np.concatenate(parts)
    entries["flags"] &= ~np.uint8(HISTORY)
    return head.tobytes() + entries.tobytes()


def sort_key(time: int, kind: int, event_id: int) -> tuple[int, bool, int]:
    """Sort key of an event in its user's history.

    By event time; of equal times refunds come after all others, so that a refund finds the purchase
    that it takes back; then by id hash. `models/kernels/sequence.py` has the same order compiled.
    """
    return time, kind == REFUND, event_id


def order_of(time: I64, kind: NDArray[np.uint8], event_id: NDArray[np.uint64]) -> list[Any]:
    """Keys for `np.lexsort` that put N events of one user into the order of `sort_key`."""
    return [event_id, kind == REFUND, time]


def entries_of(events: Events, session_age: I64, flags: NDArray[np.uint8]) -> NDArray[np.void]:
    """Ring entries for ``events``."""
    entries = np.empty(len(events), ENTRY)
    entries["time"] = events.time
    entries["id"] = events.id
    entries["item"] = events.item
    entries["session_age"] = session_age
    entries["amount"] = amount_of(events.amount)
    entries["category"] = events.category
    entries["type"] = events.type
    line = (events.type == PURCHASE) | (events.type == REFUND)
    discount = np.where(events.type == PURCHASE, events.discount, 0)
    marks = line * LINE + (discount > 0) * DISCOUNTED
    entries["flags"] = flags | marks.astype(np.uint8)
    entries["discount"] = discount
    entries["order"] = np.where(line, events.order, 0)
    entries["quantity"] = np.where(line, events.quantity, 0)
    return entries


def amount_of(units: I64) -> NDArray[np.float32]:
    """Integer amounts -> currency units, rounded as the ring keeps them."""
    return (units / AMOUNT_UNIT).astype(np.float32)


def signed_amount(events: Events) -> I64:
    """What each event adds to ``spend``: purchases positive, refunds negative, others nothing."""
    sign = (events.type == PURCHASE).astype(np.int64) - (events.type == REFUND)
    return np.asarray(events.amount * sign)


def refunded_amount(events: Events) -> I64:
    """What each event adds to ``refunded``."""
    return np.where(events.type == REFUND, events.amount, 0)
