"""One event out of order: where it belongs in a history that already holds later ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.history import (
    HISTORY,
    I64,
    LATE_LINE,
    ON_TIME,
    PURCHASE,
    REFUND,
    RETIMED,
    SESSION_START,
    Events,
    SessionRules,
    chronological,
    entries_of,
    refunded_amount,
    signed_amount,
    sort_key,
)
from models.inputs.lines import Past
from models.kernels.repeats import CONTENT
from models.orders import order_id_of
from models.overflow import Held


def find(record: np.void, held: Held, event_id: int) -> np.void | None:
    """The entry of this id hash in the ring of ``record`` or its overflow, None without one."""
    for entries in (chronological(record), held.entries):
        same = entries[entries["id"] == np.uint64(event_id)]
        if len(same):
            entry: np.void = same[0]
            return entry
    return None


def differing(entry: np.void, event: Events, *, moved: bool = False) -> tuple[str, ...]:
    """Which fields of an event (N = 1) differ from those of the held one of its id.

    ``moved``: the event's time is not its own, so it tells nothing.
    """
    new = entries_of(event, np.zeros(1, np.int64), np.zeros(1, np.uint8))[0]
    names = ("time", "type", "item", "category", "amount", "order", "quantity", "discount")
    pairs = zip(CONTENT, names, strict=True)
    found = {field for field, name in pairs if entry[name] != new[name]}
    if order_id_of(int(entry["order"])) == new["order"]:
        found.discard("order_id")
    if moved or entry["flags"] & RETIMED:
        found.discard("event_time")
    if not (entry["discount"] and new["discount"]):
        found.discard("order_discount")
    if "type" in found:
        found -= {"order_id", "quantity"}
    return tuple(field for field in CONTENT if field in found)


def corrects(record: np.void, event: Events, grace: int, correction: int) -> bool:
    """Whether an event that comes after the grace counts as of the user's latest event."""
    time, last = int(event.time[0]), int(record["last_time"])
    n, size = int(record["n"]), len(record["ring"])
    key = sort_key(time, int(event.type[0]), int(event.id[0]))
    return (
        n > 0
        and last - grace > time >= last - correction
        and int(event.type[0]) in (PURCHASE, REFUND)
        and (n < size or key >= _key(record["ring"][n % size]))
    )


def is_late(record: np.void, key: tuple[int, bool, int], grace: int, came: int = 0) -> bool:
    """Whether an event is older than the grace allows.

    ``key``: its `sort_key`. ``came``: `ON_TIME` if others' clocks say that it is on time, `HISTORY`
    if it was loaded long after it happened, so that live events do not make it late.
    """
    time = key[0]
    if time >= int(record["last_time"]) - grace:
        return False
    n, size = int(record["n"]), len(record["ring"])
    if not came or (n >= size and key < _key(record["ring"][n % size])):
        return True
    if came & ON_TIME:
        return False
    entries = chronological(record)
    loaded = entries["time"][(entries["flags"] & HISTORY) != 0]
    return len(loaded) > 0 and time < int(loaded[-1]) - grace


def has_place(record: np.void, held: Held, key: tuple[int, bool, int], most: int) -> bool:
    """Whether all events after this one are held one by one, at most ``most`` beyond the ring.

    ``key``: its `sort_key`.
    """
    n, size = int(record["n"]), len(record["ring"])
    if n < size or key >= _key(record["ring"][n % size]):
        return True
    if n == size + len(held.entries) and len(held.entries) < most:
        return True
    return len(held.entries) > 0 and key > _key(held.entries[0])


def insert(
    record: np.void,
    held: Held,
    event: Events,
    rules: SessionRules,
    grace: int,
    most: int,
    flags: int = 0,
) -> Held:
    """Put one event (N = 1) where it belongs in ``record``, as if it had arrived in order.

    ``flags``: `RETIMED`, `HISTORY` or none.

    The caller has checked ``has_place`` and that neither the ring nor the overflow, ``held``, has
    the event. The new overflow is returned.
    """
    entries = np.concatenate([held.entries, chronological(record)])
    new = entries_of(event, np.zeros(1, np.int64), np.full(1, flags, np.uint8))
    at = _place(entries, _key(new[0]))
    old = _starts(entries[at:])
    past = Past.of(record, held.purchase, rules.gap)
    entries = np.concatenate([entries[:at], new, entries[at:]])
    _repair(entries, at, rules)
    record["sessions"] = int(record["sessions"]) + _starts(entries[at:]) - old
    past.take_in(entries)
    record["orders"], record["last_order"] = past.standing, past.newest
    record["discount"] = past.discounts
    _count(record, event)
    n, size = int(record["n"]), len(record["ring"])
    left, kept = entries[: max(len(entries) - size, 0)], entries[-size:]
    record["ring"][(n - len(kept) + np.arange(len(kept))) % size] = kept
    newest = kept[-1]
    record["last_time"], record["last_id"] = newest["time"], newest["id"]
    record["session_start"] = int(newest["time"]) - int(newest["session_age"])
    return _settled(record, left, held.purchase, rules, grace, most)


def settle(
    record: np.void, held: Held, left: np.void, rules: SessionRules, grace: int, most: int
) -> Held:
    """Return the overflow after an event that was appended pushed ``left`` out of the ring."""
    entries = np.append(held.entries, left)
    return _settled(record, entries, held.purchase, rules, grace, most)


def _settled(
    record: np.void,
    left: NDArray[np.void],
    purchase: int,
    rules: SessionRules,
    grace: int,
    most: int,
) -> Held:
    """The overflow, of all entries that are known before the ring; notes what left it."""
    bought = _bought(left)
    if len(left):
        record["evicted_time"] = left["time"][-1]
    if len(bought):
        record["evicted_purchase"] = bought[-1]
    since = int(record["last_time"]) - grace
    oldest = record["ring"][int(record["n"]) % len(record["ring"])]
    if int(record["n"]) <= len(record["ring"]) or int(oldest["time"]) < since:
        record["overflow"] = 0
        _end(record, left, purchase, rules)
        return Held(left[:0], int(record["evicted_purchase"]))
    settled = int(np.count_nonzero(left["time"] < since))
    first = max(settled - 1, len(left) - most, 0)
    gone = left[:first]
    bought = _bought(gone)
    _end(record, gone, purchase, rules)
    record["overflow"] = len(left) - first
    return Held(left[first:].copy(), int(bought[-1]) if len(bought) else purchase)


def _end(record: np.void, gone: NDArray[np.void], purchase: int, rules: SessionRules) -> None:
    """Make past what a record no longer holds; ``purchase``: the newest before that, ms."""
    past = Past.of(record, purchase, rules.gap)
    past.take_in(gone)
    past.keep_in(record)


def _bought(entries: NDArray[np.void]) -> I64:
    """Times of the purchases that were not late, ms."""
    late = entries["order"] & LATE_LINE != 0
    times: I64 = entries["time"][(entries["type"] == PURCHASE) & ~late]
    return times


def _key(entry: np.void) -> tuple[int, bool, int]:
    return sort_key(int(entry["time"]), int(entry["type"]), int(entry["id"]))


def _place(entries: NDArray[np.void], key: tuple[int, bool, int]) -> int:
    at = len(entries)
    while at > 0 and _key(entries[at - 1]) > key:
        at -= 1
    return at


def _starts(entries: NDArray[np.void]) -> int:
    return int(np.count_nonzero(entries["flags"] & SESSION_START))


def _repair(entries: NDArray[np.void], at: int, rules: SessionRules) -> None:
    """Set session ages and starts anew from ``at`` on; what lies before keeps its own."""
    previous, session = None, 0
    if at:
        previous = int(entries["time"][at - 1])
        session = previous - int(entries["session_age"][at - 1])
    for i in range(at, len(entries)):
        time, flags = int(entries["time"][i]), int(entries["flags"][i]) & ~SESSION_START
        if previous is None or time - previous > rules.gap or time - session > rules.longest:
            session, flags = time, flags | SESSION_START
        entries["session_age"][i] = time - session
        entries["flags"][i] = flags
        previous = time


def _count(record: np.void, event: Events) -> None:
    time, kind = int(event.time[0]), int(event.type[0])
    record["n"] += 1
    record["counts"][kind] += 1
    record["spend"] += int(signed_amount(event)[0])
    record["refunded"] += int(refunded_amount(event)[0])
    record["first_time"] = min(int(record["first_time"]), time)
    if kind == PURCHASE:
        first = int(record["first_purchase"])
        record["first_purchase"] = time if first == 0 else min(first, time)
        record["last_purchase"] = max(int(record["last_purchase"]), time)
