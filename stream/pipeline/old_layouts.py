"""Records of layouts 1 to 6: how they were stored, and what of today's record they hold.

Layout 6 was packed as layout 7 is, without the discounts of orders. Layout 5 was packed likewise,
without what was refunded and the starts of orders. Layout 4 was packed likewise, without the words
of orders; layout 3 had the ring with its zero bytes; layout 2 was the row as it is, cut off behind
its last used ring slot (the body), and its seal; layout 1 had no seal. Layouts 1 to 4 have the same
row. It knew no order ids: what it counted as an order was purchases more than the session gap
apart.

Of lines that have left the ring nothing is known but what the record kept: of the starts of such
orders the newest and the first, of refunds what the ring still holds, of discounts nothing: they
count from the upgrade on.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_digest

from models.history import (
    AMOUNT_UNIT,
    ENTRY,
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
    chronological,
    order_of,
)
from models.kernels.xxh3 import U8
from models.overflow import Held
from stream.kernels.sealing import (
    GOOD,
    PLAIN_BYTES,
    SEAL_BYTES,
    Places,
    unpack_head,
    unpack_overflow,
    unpack_rows,
)

_SERVING: Final = [
    ("layout", "<u2"),
    ("ring_size", "<u2"),
    ("hidden_size", "<u2"),
    ("status", "u1"),
    ("disarmed", "u1"),
    ("offset", "<i8"),
    ("due", "<i8"),
    ("indexed_due", "<i8"),
    ("since", "<i8"),
    ("raised_at", "<i8"),
    ("cooldown_until", "<i8"),
    ("risk", "<f4"),
    ("raised_by", "<u4"),
    ("risk_model", "<u8"),
    ("model", "<u8"),
]
_HEADER: Final = [
    ("first_time", "<i8"),
    ("last_time", "<i8"),
    ("last_id", "<u8"),
    ("session_start", "<i8"),
    ("first_purchase", "<i8"),
    ("last_purchase", "<i8"),
    ("evicted_time", "<i8"),
    ("evicted_purchase", "<i8"),
    ("spend", "<i8"),
    ("counts", "<u4", (TYPE_SLOTS,)),
    ("n", "<u4"),
    ("orders", "<u4"),
    ("sessions", "<u4"),
    ("reserved", "<u4"),
]
_ENTRY: Final = np.dtype(
    [
        ("time", "<i8"),
        ("id", "<u8"),
        ("item", "<u4"),
        ("session_age", "<u4"),
        ("amount", "<f4"),
        ("category", "<u2"),
        ("type", "u1"),
        ("flags", "u1"),
    ]
)
_SERVING_5: Final[list[Any]] = [
    *_SERVING[:-3],
    ("raised_by", "u1"),
    ("replayed", "u1"),
    ("arm", "u1"),
    ("spare", "u1"),
    *_SERVING[-2:],
]
_HEADER_5: Final[list[Any]] = [
    *_HEADER[:8],
    ("last_order", "<i8"),
    ("past_order", "<i8"),
    *_HEADER[8:-1],
    ("overflow", "<u4"),
    ("past_orders", "<u4"),
    ("reserved", "<u4"),
    ("past_code", "<u4", (ORDERS_KEPT + OWED_KEPT,)),
    ("past_units", "<u4", (ORDERS_KEPT + OWED_KEPT,)),
    ("past_amount", "<f8", (ORDERS_KEPT + OWED_KEPT,)),
    ("past_items", "<u8", (ORDERS_KEPT + OWED_KEPT,)),
]
_HEADER_6: Final[list[Any]] = [
    *_HEADER_5[:11],
    ("refunded", "<i8"),
    *_HEADER_5[11:],
    ("past_begun", "<u4", (ORDERS_KEPT + OWED_KEPT,)),
    ("past_starts", "<u4", (STARTS_KEPT,)),
]
_ENTRY_6: Final = np.dtype([*_ENTRY.descr, ("order", "<u4"), ("quantity", "<u4")])
_HEADERS: Final = {5: _HEADER_5, 6: _HEADER_6}
_OFFSETS: Final = {name: int(at[1]) for name, at in (np.dtype(_SERVING).fields or {}).items()}
_PACKED: Final = 4
_RING_AS_IT_IS: Final = 3
_SEALED: Final = 2
_WITHOUT_STARTS: Final = 5
"""This layout and older ones kept neither the starts of orders nor what was refunded."""


def fill_from_stored(record: np.void, value: bytes, ring: int, hidden: int) -> Held | None:
    """Fill a row of zeros from a stored record of layout 1 to 6; None if it is not as written.

    Args:
        record: the row, of the newest layout.
        value: the record.
        ring: slots of its ring.
        hidden: numbers of its model's state.

    Returns:
        What it holds beyond its ring.
    """
    if value[0] in _HEADERS:
        held = fill_from_packed(record, value, ring, hidden)
    else:
        old = old_row(value, ring, hidden)
        held = None
        if old is not None:
            fill_from_old(record, old)
            held = Held(np.empty(0, ENTRY), int(record["evicted_purchase"]))
    if held is not None and value[0] <= _WITHOUT_STARTS:
        _note_past(record, held)
    return held


def fill_from_packed(record: np.void, value: bytes, ring: int, hidden: int) -> Held | None:
    """As `fill_from_stored`, what layout 5 or 6 kept alone."""
    dtype = packed_dtype(value[0], ring, hidden)
    row = np.zeros((1, dtype.itemsize), np.uint8)
    data, places = np.frombuffer(value, np.uint8), _packed_places(dtype, ring, hidden)
    verdicts, begins = np.zeros(1, np.int64), np.zeros(1, np.int64)
    first, ends = np.zeros(1, np.intp), np.array([len(value)])
    unpack_rows(data, ends, data[:6], row, first, places, verdicts, begins)
    if verdicts[0] != GOOD:
        return None
    old = row.view(dtype)[0, 0]
    for name in dtype.names or ():
        if name != "ring":
            record[name] = old[name]
    _fill_entries(record["ring"], old["ring"])
    if begins[0] < 0:
        return Held(np.empty(0, ENTRY), int(record["evicted_purchase"]))
    before = np.zeros(min(int(old["overflow"]), len(value)), _ENTRY_6)
    out, last = before.view(np.uint8), len(value) - SEAL_BYTES
    purchase = unpack_overflow(data, begins[0], last, places, out)
    if purchase < 0:
        return None
    entries = np.zeros(len(before), ENTRY)
    _fill_entries(entries, before)
    return Held(entries, int(purchase))


def _fill_entries(entries: NDArray[np.void], before: NDArray[np.void]) -> None:
    """Fill entries of zeros with what older ones hold."""
    for name in before.dtype.names or ():
        entries[name] = before[name]


def _note_past(record: np.void, held: Held) -> None:
    """Fill in what older layouts did not keep, as far as it is known."""
    entries = np.concatenate([held.entries, chronological(record)])
    back = entries["amount"][entries["type"] == REFUND].astype(np.float64)
    record["refunded"] = int(np.rint(back * AMOUNT_UNIT).sum())
    newest, first = int(record["past_order"]), int(record["first_purchase"])
    starts = [newest] if newest else []
    if 0 < first < newest:
        starts.append(first)
    for place, start in enumerate(starts):
        record["past_starts"][place] = start // START_UNIT


def packed_dtype(layout: int, ring: int, hidden: int) -> np.dtype[np.void]:
    """The row of layout 5 or 6."""
    head = [*_SERVING_5, ("hidden", "<f4", (hidden,)), *_HEADERS[layout]]
    return np.dtype([*head, ("ring", _ENTRY_6, (ring,))])


def _packed_places(dtype: np.dtype[np.void], ring: int, hidden: int) -> Places:
    fields: Any = dtype.fields
    entry: Any = _ENTRY_6.fields
    begin = np.dtype(_SERVING_5).itemsize
    return Places(
        fixed=dtype.itemsize - ring * _ENTRY_6.itemsize,
        entry=_ENTRY_6.itemsize,
        common=int(entry["order"][1]),
        line=_ENTRY_6.itemsize,
        flags=int(entry["flags"][1]),
        slots=ring,
        overflow=int(fields["overflow"][1]),
        due=_OFFSETS["indexed_due"],
        model=int(fields["model"][1]),
        hidden=begin,
        hidden_end=begin + 4 * hidden,
    )


def old_dtype(ring: int, hidden: int) -> np.dtype[np.void]:
    """The row of layouts 1 to 4."""
    return np.dtype([*_SERVING, ("hidden", "<f4", (hidden,)), *_HEADER, ("ring", _ENTRY, (ring,))])


def old_row(value: bytes, ring: int, hidden: int) -> np.void | None:
    """The row of a stored record of layout 1 to 4, None if it is not as written.

    Args:
        value: the record.
        ring: slots of its ring.
        hidden: numbers of its model's state.
    """
    dtype = old_dtype(ring, hidden)
    row = np.zeros(dtype.itemsize, np.uint8)
    filled = {
        _PACKED: _fill_packed,
        _RING_AS_IT_IS: _fill_head_packed,
        _SEALED: _fill_sealed,
    }.get(value[0], _fill_body)(value, row, _places(dtype, ring, hidden))
    record: np.void = row.view(dtype)[0]
    return record if filled else None


def fill_from_old(record: np.void, old: np.void) -> None:
    """Fill a row of zeros with what an old row holds.

    The orders of lines that have left the ring are unknown: the last of them counts as one unit.
    """
    for name in old.dtype.names or ():
        if name not in ("ring", "reserved"):
            record[name] = old[name]
    ring, before = record["ring"], old["ring"]
    _fill_entries(ring, before)
    line = (before["type"] == PURCHASE) | (before["type"] == REFUND)
    ring["flags"] |= (line * LINE).astype(np.uint8)
    ring["quantity"] = line
    _sort_ring(record)
    record["past_order"] = old["evicted_purchase"]
    began = before["time"][(before["flags"] & ORDER_START) != 0]
    record["last_order"] = max([int(old["evicted_purchase"]), *began.tolist()])
    record["past_units"][0] = old["evicted_purchase"] > 0


def _sort_ring(record: np.void) -> None:
    """Put refunds behind other events of their time, where ids alone decided.

    Sessions have begun at the first event of a time, whichever that is.
    """
    n, size = int(record["n"]), len(record["ring"])
    entries = chronological(record)
    order = np.lexsort(order_of(entries["time"], entries["type"], entries["id"]))
    if (order == np.arange(len(order))).all():
        return
    starts, found = entries["flags"] & SESSION_START, entries[order]
    found["flags"] = (found["flags"] & ~np.uint8(SESSION_START)) | starts
    record["ring"][(n - len(found) + np.arange(len(found))) % size] = found
    record["last_id"] = found["id"][-1]


def _places(dtype: np.dtype[np.void], ring: int, hidden: int) -> Places:
    begin = np.dtype(_SERVING).itemsize
    return Places(
        fixed=dtype.itemsize - ring * _ENTRY.itemsize,
        entry=_ENTRY.itemsize,
        common=_ENTRY.itemsize,
        line=_ENTRY.itemsize,
        flags=_ENTRY.itemsize - 1,
        slots=ring,
        overflow=dtype.itemsize - ring * _ENTRY.itemsize - 4,  # zero
        due=_OFFSETS["indexed_due"],
        model=_OFFSETS["model"],
        hidden=begin,
        hidden_end=begin + 4 * hidden,
    )


def _fill_packed(value: bytes, row: U8, places: Places) -> bool:
    ends, first = np.array([len(value)]), np.zeros(1, np.intp)
    verdicts, overflows = np.zeros(1, np.int64), np.zeros(1, np.int64)
    data = np.frombuffer(value, np.uint8)
    unpack_rows(data, ends, data[:6], row[np.newaxis], first, places, verdicts, overflows)
    return bool(verdicts[0] == GOOD)


def _fill_head_packed(value: bytes, row: U8, places: Places) -> bool:
    if not _is_sealed(value):
        return False
    data = np.frombuffer(value[:-SEAL_BYTES], np.uint8)
    at = unpack_head(data, PLAIN_BYTES, len(data), row, places)
    if not 0 <= at <= len(data) <= at + places.slots * places.entry:
        return False
    row[:8], row[places.due : places.due + 8] = data[:8], data[8:PLAIN_BYTES]
    row[places.fixed : places.fixed + len(data) - at] = data[at:]
    return True


def _fill_sealed(value: bytes, row: U8, places: Places) -> bool:
    return _is_sealed(value) and _fill_body(value[:-SEAL_BYTES], row, places)


def _fill_body(value: bytes, row: U8, places: Places) -> bool:
    if not places.fixed <= len(value) <= len(row):
        return False
    row[: len(value)] = np.frombuffer(value, np.uint8)
    return True


def _is_sealed(value: bytes) -> bool:
    return xxh3_64_digest(value[:-SEAL_BYTES]) == value[-SEAL_BYTES:]
