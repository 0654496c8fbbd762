"""One event out of order: where it belongs in a history that already holds later ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.history import (
    ORDER_START,
    PURCHASE,
    SESSION_START,
    Events,
    SessionRules,
    chronological,
    entries_of,
    signed_amount,
)


def holds(record: np.void, event_id: int, skip: int = 0) -> bool:
    """Whether the ring of ``record`` holds an event of this id hash.

    ``skip`` newer events are about to be appended: what they will push out does not count.
    """
    ring = record["ring"]
    n, size = int(record["n"]), len(ring)
    first = max(n - size, n + skip - size, 0)
    slots = np.arange(first, n) % size
    return bool((ring["id"][slots] == np.uint64(event_id)).any())


def has_place(record: np.void, time: int, event_id: int) -> bool:
    """Whether an event would land inside the ring: a full one has no place before its oldest."""
    n, size = int(record["n"]), len(record["ring"])
    if n < size:
        return True
    oldest = record["ring"][n % size]
    return (time, event_id) > (int(oldest["time"]), int(oldest["id"]))


def insert(record: np.void, event: Events, rules: SessionRules) -> None:
    """Put one event (N = 1) where it belongs in ``record``, as if it had arrived in order.

    The caller has checked ``has_place`` and that the ring does not hold the event.
    """
    entries = chronological(record)
    new = entries_of(event, np.zeros(1, np.int64), np.zeros(1, np.uint8))
    key = (int(event.time[0]), int(event.id[0]))
    at = _place(entries, key)
    before = _starts(entries[at:])
    entries = np.concatenate([entries[:at], new, entries[at:]])
    _repair(record, entries, at, rules)
    after = _starts(entries[at:])
    record["sessions"] = int(record["sessions"]) + after[0] - before[0]
    record["orders"] = int(record["orders"]) + after[1] - before[1]
    _count(record, event)
    entries = _evict(record, entries)
    n, size = int(record["n"]), len(record["ring"])
    record["ring"][(n - len(entries) + np.arange(len(entries))) % size] = entries
    newest = entries[-1]
    record["last_time"], record["last_id"] = newest["time"], newest["id"]
    record["session_start"] = int(newest["time"]) - int(newest["session_age"])


def _place(entries: NDArray[np.void], key: tuple[int, int]) -> int:
    at = len(entries)
    while at > 0 and (int(entries["time"][at - 1]), int(entries["id"][at - 1])) > key:
        at -= 1
    return at


def _starts(entries: NDArray[np.void]) -> tuple[int, int]:
    flags = entries["flags"]
    return int(np.count_nonzero(flags & SESSION_START)), int(np.count_nonzero(flags & ORDER_START))


def _repair(record: np.void, entries: NDArray[np.void], at: int, rules: SessionRules) -> None:
    """Set session ages and flags anew from ``at`` on; what lies before keeps its own."""
    earlier = entries[:at]
    bought = earlier["time"][earlier["type"] == PURCHASE]
    last_purchase = int(bought[-1]) if len(bought) else int(record["evicted_purchase"])
    previous, session = None, 0
    if at:
        previous = int(entries["time"][at - 1])
        session = previous - int(entries["session_age"][at - 1])
    for i in range(at, len(entries)):
        time, flags = int(entries["time"][i]), 0
        if previous is None or time - previous > rules.gap or time - session > rules.longest:
            session, flags = time, SESSION_START
        if entries["type"][i] == PURCHASE:
            if last_purchase == 0 or time - last_purchase > rules.gap:
                flags |= ORDER_START
            last_purchase = time
        entries["session_age"][i] = time - session
        entries["flags"][i] = flags
        previous = time


def _count(record: np.void, event: Events) -> None:
    time, kind = int(event.time[0]), int(event.type[0])
    record["n"] += 1
    record["counts"][kind] += 1
    record["spend"] += int(signed_amount(event)[0])
    record["first_time"] = min(int(record["first_time"]), time)
    if kind == PURCHASE:
        first = int(record["first_purchase"])
        record["first_purchase"] = time if first == 0 else min(first, time)
        record["last_purchase"] = max(int(record["last_purchase"]), time)


def _evict(record: np.void, entries: NDArray[np.void]) -> NDArray[np.void]:
    if len(entries) <= len(record["ring"]):
        return entries
    oldest = entries[0]
    record["evicted_time"] = oldest["time"]
    if oldest["type"] == PURCHASE:
        record["evicted_purchase"] = oldest["time"]
    return entries[1:]
