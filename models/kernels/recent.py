"""What a user's newest events and order starts say at one time.

The same in plain Python, and what it means: `models/inputs/recent.py`.

Every number is a float32 made here of integers, so serving and training get the same bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.history import (
    LINE,
    ORDER_START,
    ORDERS_KEPT,
    OWED_KEPT,
    PURCHASE,
    REFUND,
    SESSION_START,
    START_UNIT,
    STARTS_KEPT,
    TYPE_SLOTS,
)
from models.kernels.columns import Limits
from models.kernels.jit import kernel
from models.kernels.ledger import copy_of
from models.kernels.one_event import append
from models.kernels.orders import fill_entry, follow_entry, past_of
from models.kernels.places import held_from, history, in_slot, new_entry, of_rank, slot_of
from schemas.events import TYPE_CODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64
    from models.kernels.columns import EventColumns
    from models.kernels.places import Arena, History, Table

SPAN: Final = 64
"""Newest events of a user that are looked at; counts of events end there."""
SESSION_SPAN: Final = 32
"""Likewise of the running session."""
AGO: Final = 3
"""So many events ago the same item or category is looked for."""
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
EVENT_DAYS: Final = (1, 7, 30)
SESSION_DAYS: Final = (7, 30)
ORDER_DAYS: Final = (7, 14, 30, 60, 90)
RECENT_FEATURES: Final = (
    *(f"log_orders_{days}d" for days in ORDER_DAYS),
    "has_order_gap",
    "log_median_order_gap_hours",
    "log_longest_order_gap_hours",
    "log_overdue_median",
    "log_overdue_longest",
    *(f"log_events_{days}d" for days in EVENT_DAYS),
    *(f"log_views_{days}d" for days in EVENT_DAYS),
    *(f"log_cart_adds_{days}d" for days in EVENT_DAYS),
    *(f"log_sessions_{days}d" for days in SESSION_DAYS),
    "cart_filled",
    "log_cart_value",
    "last_is_view",
    "last_is_cart_add",
    "last_is_purchase",
    "log_session_events",
    "log_session_views",
    "log_session_searches",
    "log_session_cart_adds",
    "log_session_items",
    "log_session_categories",
    "log_repeated_views",
    "log_searched_views",
    "log_same_item",
    *(f"same_item_{ago}_ago" for ago in range(1, AGO + 1)),
    *(f"same_category_{ago}_ago" for ago in range(1, AGO + 1)),
)
"""Names of the columns that `fill_recent` fills, in their order."""

_VIEW: Final = TYPE_CODES["view"]
_SEARCH: Final = TYPE_CODES["search"]
_CART_ADD: Final = TYPE_CODES["cart_add"]
_CART_REMOVE: Final = TYPE_CODES["cart_remove"]
_DAY: Final = 1_000 * DAY_S
_LOGS: Final = np.array([math.log1p(count) for count in range(SPAN + 1)], np.float32)
_COUNTS: Final = np.zeros(TYPE_SLOTS, np.int64)
"""Per type what an event adds: an event, a view, what went into a cart, a session, a refund."""
_COUNTS[1:] = 1
_COUNTS[_VIEW] |= 1 << 8
_COUNTS[_CART_ADD] |= 1 << 16
_COUNTS[REFUND] |= 1 << 32
_SESSION: Final = np.zeros(TYPE_SLOTS, np.int64)
"""Likewise within a session: an event, a view, a search, what went into the cart."""
_SESSION[1:] = 1
_SESSION[_VIEW] |= 1 << 8
_SESSION[_SEARCH] |= 1 << 16
_SESSION[_CART_ADD] |= 1 << 24
_SAME: Final = RECENT_FEATURES.index("same_item_1_ago")


@kernel
def _ones(bits: np.uint64) -> Any:
    """How many bits are set."""
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + (
        (bits >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _all_stand(h: Any) -> bool:
    """Whether no order before all that is held was given back, and nothing is owed to any."""
    if h.counts[REFUND] == 0:
        return True
    for place in range(ORDERS_KEPT + OWED_KEPT):
        known = h.past_begun[place] > 0 or h.past_code[place] > 0
        if known and (place >= ORDERS_KEPT or h.past_units[place] == 0):
            return False
    return True


@kernel
def _starts_by_marks(u: History, rank: Any, found: Any, starts: Any) -> bool:
    """Complete the starts of orders where no line took anything back; whether that was so.

    Args:
        u: the history.
        rank: the newest event that was not looked at; its orders follow.
        found: how many starts there are of later events.
        starts: these, the newest first.
    """
    h, oldest = u.head, held_from(u)
    wanted: Any = np.int64(h.orders) - np.int64(h.past_orders)
    refunds = h.counts[REFUND] > 0
    while rank >= oldest and (refunds or (found < wanted and found < STARTS_KEPT)):
        entry = of_rank(u, rank)
        if entry.type == REFUND:
            return False
        if entry.flags & ORDER_START and found < STARTS_KEPT:
            starts[found] = np.uint32(entry.time // START_UNIT)
            found += 1
        rank -= 1
    for place in range(STARTS_KEPT - found):
        starts[found + place] = h.past_starts[place]
    return True


@kernel
def _starts_by_ledger(u: History, gap: int, starts: Any) -> None:
    """Follow all lines that are held, to see whose orders stand."""
    h = u.head
    ledger = copy_of(past_of(h))
    last: Any = u.segment.purchase if h.overflow else h.evicted_purchase
    for rank in range(held_from(u), np.int64(h.n)):
        entry = of_rank(u, rank)
        if entry.flags & LINE:
            last, _, _, _ = follow_entry(ledger, last, gap, entry)
    starts[:STARTS_KEPT] = ledger.starts


@kernel
def _fill_orders(starts: Any, now: Any, out: Any, at: Any) -> None:
    """Fill the columns of orders: how many of late, and how they are spaced.

    ``starts``: [2 * STARTS_KEPT] of the orders that stand, the newest first, and room.
    """
    seconds = now // START_UNIT
    count: Any = 0
    while count < STARTS_KEPT and starts[count] > 0:
        count += 1
    column, within = len(ORDER_DAYS) - 1, count
    for days in ORDER_DAYS[::-1]:
        while within > 0 and seconds - np.int64(starts[within - 1]) >= days * DAY_S:
            within -= 1
        out[at, column] = _LOGS[within]
        column -= 1
    column = len(ORDER_DAYS)
    if count < 2:
        for k in range(column, column + 5):
            out[at, k] = np.float32(0.0)
        return
    for k in range(count - 1):
        length = starts[k] - starts[k + 1]
        place = STARTS_KEPT + k
        while place > STARTS_KEPT and starts[place - 1] > length:
            starts[place] = starts[place - 1]
            place -= 1
        starts[place] = length
    twice = np.int64(starts[STARTS_KEPT + (count - 2) // 2])
    twice += np.int64(starts[STARTS_KEPT + (count - 1) // 2])
    median, longest = twice / 2.0, np.float64(starts[STARTS_KEPT + count - 2])
    waited = np.float64(seconds - np.int64(starts[0]))
    out[at, column] = np.float32(1.0)
    out[at, column + 1] = np.float32(math.log1p(median / HOUR_S))
    out[at, column + 2] = np.float32(math.log1p(longest / HOUR_S))
    out[at, column + 3] = np.float32(math.log1p(waited / max(median, HOUR_S)))
    out[at, column + 4] = np.float32(math.log1p(waited / max(longest, HOUR_S)))


@kernel
def _log(counts: Any, place: int) -> Any:
    """The logarithm of one of the counts in a word."""
    return _LOGS[(counts >> (8 * place)) & 255]


@kernel
def _count_back(
    u: History, first: Any, after: Any, k: Any, used: Any, found: Any, starts: Any
) -> tuple[Any, Any, Any]:
    """Count events back in time.

    Args:
        u: the history.
        first: slot of its newest event.
        after: events up to this time are left, ms.
        k: so many of the newest events are counted already.
        used: so many are counted at most.
        found: so many starts of orders were found in them.
        starts: to be filled with those that follow.

    Returns:
        (the counts of these events, as of `_COUNTS`; how many are counted; starts found)
    """
    counts: Any = 0
    place: Any = first - k
    if place < 0:
        place += u.size
    while k < used:
        entry = in_slot(u, place)
        if entry.time <= after:
            break
        counts += _COUNTS[entry.type & 7] + (np.int64(entry.flags & SESSION_START) << 24)
        if entry.flags & ORDER_START and found < STARTS_KEPT:
            starts[found] = np.uint32(entry.time // START_UNIT)
            found += 1
        place = place - 1 if place > 0 else u.size - 1
        k += 1
    return counts, k, found


@kernel
def _fill_cart(u: History, first: Any, used: Any, out: Any, at: Any, column: Any) -> None:
    """Fill the columns of what is in the cart since the newest purchase."""
    lines: Any = 0
    value, place = 0.0, first
    for _ in range(used):
        entry = in_slot(u, place)
        place = place - 1 if place > 0 else u.size - 1
        if entry.type == PURCHASE:
            break
        sign: Any = np.int64(entry.type == _CART_ADD) - np.int64(entry.type == _CART_REMOVE)
        lines += sign
        value += sign * np.float64(entry.amount)
    some = lines > 0 and value > 0
    out[at, column] = np.float32(lines > 0)
    out[at, column + 1] = np.float32(math.log1p(value)) if some else np.float32(0.0)


@kernel
def _fill_session(u: History, first: Any, used: Any, out: Any, at: Any, column: Any) -> None:
    """Fill the columns of the running session; branches on what users do cannot be foreseen."""
    begun, newest, place = u.head.session_start, in_slot(u, first), first
    item, category = newest.item, newest.category
    session: Any = 0
    after: Any = 0
    items, categories, viewed = np.uint64(0), np.uint64(0), np.uint64(0)
    for k in range(2 * AGO):
        out[at, _SAME + k] = np.float32(0.0)
    for k in range(used):
        entry = in_slot(u, place)
        place = place - 1 if place > 0 else u.size - 1
        if entry.time < begun:
            break
        is_view = np.uint64(entry.type == _VIEW)
        bit = np.uint64(entry.item > 0) << np.uint64(entry.item & 63)
        again = np.int64(viewed & bit != np.uint64(0)) * np.int64(is_view)
        searched = after * np.int64(entry.type == _SEARCH)
        same = np.int64(entry.item == item) * np.int64(item > 0) * np.int64(k > 0)
        session += _SESSION[entry.type & 7] + ((again << 32) | (searched << 40) | (same << 48))
        after = np.int64(is_view)
        items |= bit
        viewed |= bit * is_view
        categories |= np.uint64(entry.category > 0) << np.uint64(entry.category & 63)
        if 0 < k <= AGO:
            alike = entry.category == category and category > 0
            out[at, _SAME + k - 1] = np.float32(same)
            out[at, _SAME + AGO + k - 1] = np.float32(alike)
    for which in range(4):
        out[at, column + which] = _log(session, which)
    out[at, column + 4] = _LOGS[_ones(items)]
    out[at, column + 5] = _LOGS[_ones(categories)]
    for which in range(3):
        out[at, column + 6 + which] = _log(session, 4 + which)


@kernel
def fill_recent(u: History, gap: int, now: Any, starts: Any, out: Any, at: Any) -> None:
    """Fill the recent features of a user at a time.

    Args:
        u: the history.
        gap: session gap, ms.
        now: the time, at or after the latest event, ms.
        starts: [2 * STARTS_KEPT] uint32, room to work in.
        out: [N, len(RECENT_FEATURES)] float32.
        at: its row.
    """
    h, n = u.head, np.int64(u.head.n)
    used: Any = min(n, u.size, SPAN)
    first = slot_of(u, n - 1)
    day, k, found = _count_back(u, first, now - _DAY, 0, used, 0, starts)
    more, k, found = _count_back(u, first, now - 7 * _DAY, k, used, found, starts)
    week = day + more
    more, k, found = _count_back(u, first, now - 30 * _DAY, k, used, found, starts)
    month = week + more
    more, k, found = _count_back(u, first, -1, k, used, found, starts)
    by_marks = ((month + more) >> 32) & 255 == 0 and _all_stand(h)
    if h.counts[PURCHASE] == 0:
        starts[:STARTS_KEPT] = 0
    elif not (by_marks and _starts_by_marks(u, n - 1 - used, found, starts)):
        _starts_by_ledger(u, gap, starts)
    _fill_orders(starts, now, out, at)
    column: Any = len(ORDER_DAYS) + 5
    for which in range(3):
        out[at, column + 3 * which] = _log(day, which)
        out[at, column + 3 * which + 1] = _log(week, which)
        out[at, column + 3 * which + 2] = _log(month, which)
    column += 9
    out[at, column] = _log(week, 3)
    out[at, column + 1] = _log(month, 3)
    _fill_cart(u, first, used, out, at, column + 2)
    kind = in_slot(u, first).type
    out[at, column + 4] = np.float32(kind == _VIEW)
    out[at, column + 5] = np.float32(kind == _CART_ADD)
    out[at, column + 6] = np.float32(kind == PURCHASE)
    inside: Any = min(used, SESSION_SPAN) if now - h.last_time <= gap else 0
    _fill_session(u, first, inside, out, at, column + 7)


@kernel
def recent_of_records(
    table: Table, arena: Arena, rows: I64, now: I64, gap: int, out: NDArray[np.float32]
) -> None:
    """Fill the recent features of N records, each at its own time, ms."""
    starts = np.empty(2 * STARTS_KEPT, np.uint32)
    for i in range(len(rows)):
        fill_recent(history(table, arena, rows[i]), gap, now[i], starts, out, i)


@kernel
def recent_in_order(
    table: Table,
    arena: Arena,
    rows: I64,
    events: EventColumns,
    gap: int,
    longest: int,
    wanted: I64,
    order: I64,
    record: I64,
    now: I64,
    out: NDArray[np.float32],
) -> None:
    """Apply N events in order, as serving does, and fill the recent features on the way.

    Args:
        table: histories, changed in place.
        arena: nothing: no event comes out of order, so rings are all that is held.
        rows: [N] record of each event; those of one are adjacent.
        events: in order of row and, of each, in that of histories.
        gap: session gap, ms.
        longest: longest session, ms.
        wanted: [Q] the features are wanted after this event; -1: before all events.
        order: [Q] 0 .. Q - 1 so that `wanted` rises.
        record: [Q] record of each.
        now: [Q] time of each, ms.
        out: [Q, len(RECENT_FEATURES)].
    """
    starts = np.empty(2 * STARTS_KEPT, np.uint32)
    limits = Limits(gap, longest, -1, 0, 0, False, 0, 0, 0)
    event, next_one = new_entry(), 0
    while next_one < len(order) and wanted[order[next_one]] < 0:
        q = order[next_one]
        fill_recent(history(table, arena, record[q]), gap, now[q], starts, out, q)
        next_one += 1
    for i in range(len(rows)):
        if next_one == len(order):
            break
        u = history(table, arena, rows[i])
        fill_entry(event, events, i)
        append(u, event, events.amount[i], limits)
        while next_one < len(order) and wanted[order[next_one]] == i:
            q = order[next_one]
            fill_recent(u, gap, now[q], starts, out, q)
            next_one += 1
