"""What a user's newest events and order starts say at one time: windows, order gaps, the session.

All of it follows from the `SPAN` newest events of the ring and from the starts of the newest
`STARTS_KEPT` orders, which the record keeps once their first lines have left what is held. So it is
the same for every order of arrival within the grace, and an event costs no memory in training.

- **Windows**: `log_orders_30d` is log(1 + the orders that began less than 30 days before `now`).
  An order is what `models/orders.py` says: one that was given back does not count, from its refund
  on, in no window; a purchase that came after the grace counts as of when it came. Counts end at
  `STARTS_KEPT` orders and `SPAN` events. A window that begins before the log does is short:
  `log_tenure_hours` tells how long a user is known.
- **Gaps** lie between the starts of successive orders; with fewer than two orders there is none,
  and their columns are 0. Overdue is log(1 + time since the newest start / gap), of a gap of at
  least an hour.
- **Cart**: what was added less what was removed since the newest purchase, whenever that was.
- **Session**: of the `SESSION_SPAN` newest events of the running session; all 0 once more than the
  session gap has passed since the newest event. Items and categories are told apart by 64 buckets
  of their hash.

Shape suffixes: N records or Q times, R recent features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.history import (
    PURCHASE,
    SESSION_START,
    START_UNIT,
    STARTS_KEPT,
    Events,
    Records,
    SessionRules,
    chronological,
)
from models.inputs.lines import Past
from models.kernels.columns import EventColumns
from models.kernels.places import NO_ARENA, Table
from models.kernels.recent import (
    AGO,
    DAY_S,
    EVENT_DAYS,
    HOUR_S,
    ORDER_DAYS,
    RECENT_FEATURES,
    SESSION_DAYS,
    SESSION_SPAN,
    SPAN,
    recent_in_order,
    recent_of_records,
)
from schemas.events import TYPE_CODES

if TYPE_CHECKING:
    from models.overflow import Held, Overflow

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]

_USERS_AT_ONCE = 4096
"""Histories that are followed at a time, which bounds memory."""
_CODES = TYPE_CODES


def recent(
    records: Records, rows: Index, now: I64, rules: SessionRules, overflow: Overflow | None = None
) -> F32:
    """The recent features [N,R] of `records[rows]`, each at its own time.

    Args:
        records: the histories.
        rows: [N] which.
        now: [N] at or after the latest event of each, ms.
        rules: when a session ends.
        overflow: what the records hold beyond their rings; None: nothing.
    """
    out = np.empty((len(rows), len(RECENT_FEATURES)), np.float32)
    arena = NO_ARENA if overflow is None else overflow.arena
    times = np.ascontiguousarray(now, np.int64)
    recent_of_records(Table.of(records), arena, rows, times, rules.gap, out)
    return out


def recent_along(
    records: Records,
    rows: Index,
    events: Events,
    rules: SessionRules,
    wanted: Index,
    row: Index,
    now: I64,
) -> F32:
    """The recent features [Q,R] at Q times, while N events enter histories, which stay as they are.

    Args:
        records: the histories before the events; they hold a ring only.
        rows: [N] record of each event, ascending.
        events: in order of row, time and id, later than all that the records hold.
        rules: when sessions and orders end.
        wanted: [Q] the last event before the time; -1: none of them is.
        row: [Q] record of each time.
        now: [Q] ms.
    """
    out = np.empty((len(row), len(RECENT_FEATURES)), np.float32)
    users, of = np.unique(row, return_inverse=True)
    by_user = np.argsort(of, kind="stable")
    columns = EventColumns.of(events)
    for lo in range(0, len(users), _USERS_AT_ONCE):
        block = users[lo : lo + _USERS_AT_ONCE]
        first, end = np.searchsorted(of[by_user], (lo, lo + len(block)))
        points = by_user[first:end]
        begin, stop = np.searchsorted(rows, (block[0], block[-1] + 1))
        inside = np.flatnonzero(np.isin(rows[begin:stop], block)) + begin
        place = np.full(stop - begin + 1, -1)
        place[inside - begin] = np.arange(len(inside))
        after = np.where(wanted[points] < 0, -1, place[np.maximum(wanted[points] - begin, -1)])
        found = np.empty((len(points), len(RECENT_FEATURES)), np.float32)
        histories = records[block]
        recent_in_order(
            Table.of(histories),
            NO_ARENA,
            np.searchsorted(block, rows[inside]),
            EventColumns(*(column[inside] for column in columns)),
            rules.gap,
            rules.longest,
            after,
            np.argsort(after, kind="stable"),
            of[points] - lo,
            now[points],
            found,
        )
        out[points] = found
    return out


def recent_reference(record: np.void, held: Held, now: int, rules: SessionRules) -> F32:
    """The recent features [R] of one record, in plain Python: what the kernel has to give.

    Args:
        record: the history.
        held: what it holds beyond its ring.
        now: ms.
        rules: when a session ends.
    """
    ring = chronological(record)
    past = Past.of(record, held.purchase, rules.gap)
    past.take_in(np.concatenate([held.entries, ring]))
    told = _orders_told(past.book.starts[:STARTS_KEPT], now // START_UNIT)
    told |= _events_told(ring[-SPAN:][::-1], now)
    running = now - int(record["last_time"]) <= rules.gap
    newest = ring[-SESSION_SPAN:][::-1]
    session = [e for e in newest if running and e["time"] >= record["session_start"]]
    told |= _session_told(session)
    return np.array([told[name] for name in RECENT_FEATURES], np.float32)


def _orders_told(starts: list[int], seconds: int) -> dict[str, float]:
    told = {
        f"log_orders_{days}d": math.log1p(sum(seconds - s < days * DAY_S for s in starts))
        for days in ORDER_DAYS
    }
    gaps = [later - earlier for later, earlier in pairwise(starts)]
    known = len(gaps) > 0
    median = float(np.median(gaps)) if known else 0.0
    longest, waited = max(gaps, default=0), seconds - starts[0] if known else 0
    return told | {
        "has_order_gap": known,
        "log_median_order_gap_hours": math.log1p(median / HOUR_S),
        "log_longest_order_gap_hours": math.log1p(longest / HOUR_S),
        "log_overdue_median": math.log1p(waited / max(median, HOUR_S)),
        "log_overdue_longest": math.log1p(waited / max(longest, HOUR_S)),
    }


def _events_told(newest_first: NDArray[np.void], now: int) -> dict[str, float]:
    entries = newest_first

    def within(days: int, which: Callable[[np.void], bool]) -> float:
        age = days * DAY_S * 1000
        return math.log1p(sum(which(e) for e in entries if now - int(e["time"]) < age))

    told = {f"log_events_{days}d": within(days, lambda _: True) for days in EVENT_DAYS}
    for name in ("view", "cart_add"):
        for days in EVENT_DAYS:
            told[f"log_{name}s_{days}d"] = within(days, lambda e, n=name: e["type"] == _CODES[n])  # type: ignore[misc]
    for days in SESSION_DAYS:
        told[f"log_sessions_{days}d"] = within(days, lambda e: bool(e["flags"] & SESSION_START))
    lines, value = 0, 0.0
    for entry in entries:
        if entry["type"] == PURCHASE:
            break
        sign = int(entry["type"] == _CODES["cart_add"]) - int(
            entry["type"] == _CODES["cart_remove"]
        )
        lines, value = lines + sign, value + sign * float(entry["amount"])
    told |= {
        "cart_filled": lines > 0,
        "log_cart_value": math.log1p(value) if lines > 0 and value > 0 else 0.0,
    }
    for name in ("view", "cart_add", "purchase"):
        told[f"last_is_{name}"] = len(entries) > 0 and entries[0]["type"] == _CODES[name]
    return told


def _session_told(newest_first: list[np.void]) -> dict[str, float]:
    entries = newest_first
    kinds = [int(e["type"]) for e in entries]
    items, categories = ([int(e[name]) for e in entries] for name in ("item", "category"))
    viewed = [i % 64 for i, kind in zip(items, kinds, strict=True) if i and kind == _CODES["view"]]
    counts = {
        "session_events": len(entries),
        "session_views": kinds.count(_CODES["view"]),
        "session_searches": kinds.count(_CODES["search"]),
        "session_cart_adds": kinds.count(_CODES["cart_add"]),
        "session_items": len({item % 64 for item in items if item}),
        "session_categories": len({category % 64 for category in categories if category}),
        "repeated_views": len(viewed) - len(set(viewed)),
        "searched_views": list(pairwise(kinds)).count((_CODES["view"], _CODES["search"])),
        "same_item": sum(item == items[0] for item in items[1:] if item),
    }
    told = {f"log_{name}": math.log1p(count) for name, count in counts.items()}
    for ago in range(1, AGO + 1):
        for name, codes in (("item", items), ("category", categories)):
            told[f"same_{name}_{ago}_ago"] = (
                ago < len(codes) and codes[ago] == codes[0] and codes[0] > 0
            )
    return told
