"""Plain JSON events, many at once, straight into columns.

What this takes for an event, `schemas.codec.decode_event` takes for the same event; tests compare
the two. It takes only the plain ones, which are nearly all: one flat object of known fields, each
once, with ASCII text without escapes and numbers of few digits. Whatever else a record may hold,
valid or not, is left to `decode_event`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.encoding import Row
from models.history import AMOUNT_UNIT, I64, ORDER_BITS
from models.kernels.jit import kernel, part
from models.kernels.raw import bytes_of
from models.kernels.xxh3 import U8, xxh3_64
from schemas.events import (
    MAX_ID_LENGTH,
    MAX_PRICE,
    MAX_QUANTITY,
    MAX_QUERY_LENGTH,
    MAX_TIME,
    MAX_TIMEZONE_LENGTH,
    TYPE_CODES,
)
from stream.kernels.batches import Places
from stream.kernels.json_text import (
    EXACT_DIGITS,
    currency_of,
    is_null,
    is_timezone,
    number,
    same,
    skip,
    text_end,
    word,
    word_table,
)

_FIELDS: Final = (
    "event_id",
    "user_id",
    "event_time",
    "type",
    "item_id",
    "category_id",
    "price",
    "quantity",
    "currency",
    "session_id",
    "schema_version",
    "anonymous_id",
    "query",
    "order_id",
    "order_discount",
    "tax",
    "timezone",
)
_EVENT_ID, _USER_ID, _EVENT_TIME, _TYPE, _ITEM, _CATEGORY, _PRICE, _QUANTITY = range(8)
_CURRENCY, _SESSION, _VERSION, _ANONYMOUS, _QUERY, _ORDER, _DISCOUNT, _TAX, _TIMEZONE = range(8, 17)
_REQUIRED: Final = 0b1111

_MAX_CURRENCY: Final = 16
_MAX_VERSION: Final = 65_535
_UNIT: Final = np.float64(AMOUNT_UNIT)


_FIELD_TEXT, _FIELD_AT, _FIELD_OF = word_table(_FIELDS)
_TYPE_TEXT, _TYPE_AT, _TYPE_OF = word_table(tuple(TYPE_CODES))
_TYPE_CODE: Final = np.array(list(TYPE_CODES.values()), np.int64)
_POWERS: Final = 10.0 ** np.arange(EXACT_DIGITS + 1)


class Parsed(NamedTuple):
    """Columns for N events, to be filled."""

    time: I64
    id: NDArray[np.uint64]
    type: NDArray[np.uint8]
    item: NDArray[np.uint32]
    category: NDArray[np.uint16]
    amount: I64
    order: NDArray[np.uint32]
    quantity: NDArray[np.uint32]
    discount: I64
    plain: NDArray[np.bool_]
    """Whether the row is filled; if not, `decode_event` has to look at the record."""
    currency: NDArray[np.uint32]
    """Of the amount, as of `models.money.currency_code`."""

    def fill(self, index: int, row: Row, currency: int) -> None:
        """Set a row, and the code of its currency."""
        self.time[index], self.id[index], self.type[index] = row[:3]
        self.item[index], self.category[index], self.amount[index] = row[3:6]
        self.order[index], self.quantity[index], self.discount[index] = row[6:]
        self.plain[index] = True
        self.currency[index] = currency

    @classmethod
    def empty(cls, count: int) -> Parsed:
        """Room for ``count`` events."""
        return cls(
            np.zeros(count, np.int64),
            np.zeros(count, np.uint64),
            np.zeros(count, np.uint8),
            np.zeros(count, np.uint32),
            np.zeros(count, np.uint16),
            np.zeros(count, np.int64),
            np.zeros(count, np.uint32),
            np.zeros(count, np.uint32),
            np.zeros(count, np.int64),
            np.zeros(count, np.bool_),
            np.zeros(count, np.uint32),
        )


class Bounds(NamedTuple):
    """What a plain event must keep to."""

    max_bytes: int
    max_amount: int
    """1 / AMOUNT_UNIT."""
    partition: int
    partitions: int
    """Number of partitions by which keys are checked, 0: they are not."""


@kernel
def murmur2(data: U8, start: int, length: int) -> Any:
    """Kafka's hash of a key, as its Java client has it (`Utils.murmur2`), 32 bits."""
    m, mask = np.uint32(0x5BD1E995), np.uint32(0xFF)
    h = np.uint32(0x9747B28C) ^ np.uint32(length)
    blocks = length // 4
    for i in range(blocks):
        at = start + 4 * i
        k = np.uint32(
            np.uint32(data[at])
            | (np.uint32(data[at + 1]) << np.uint32(8))
            | (np.uint32(data[at + 2]) << np.uint32(16))
            | (np.uint32(data[at + 3]) << np.uint32(24))
        )
        k = np.uint32(k * m)
        k = np.uint32(k ^ (k >> np.uint32(24)))
        k = np.uint32(k * m)
        h = np.uint32(h * m)
        h = np.uint32(h ^ k)
    at, rest = start + 4 * blocks, length % 4
    if rest == 3:
        h = np.uint32(h ^ ((np.uint32(data[at + 2]) & mask) << np.uint32(16)))
    if rest >= 2:
        h = np.uint32(h ^ ((np.uint32(data[at + 1]) & mask) << np.uint32(8)))
    if rest >= 1:
        h = np.uint32(h ^ (np.uint32(data[at]) & mask))
        h = np.uint32(h * m)
    h = np.uint32(h ^ (h >> np.uint32(13)))
    h = np.uint32(h * m)
    return np.int64(np.uint32(h ^ (h >> np.uint32(15))))


@kernel
def _longest(field: int) -> int:
    """Longest text of a field, -1 if it is no text."""
    if field == _CURRENCY:
        return _MAX_CURRENCY
    if field == _QUERY:
        return MAX_QUERY_LENGTH
    if field == _TIMEZONE:
        return MAX_TIMEZONE_LENGTH
    if field in (_EVENT_TIME, _PRICE, _QUANTITY, _VERSION, _DISCOUNT, _TAX):
        return -1
    return MAX_ID_LENGTH


@kernel
def _largest(field: int) -> int:
    """Largest whole number in a field."""
    if field == _EVENT_TIME:
        return MAX_TIME
    return MAX_QUANTITY if field == _QUANTITY else _MAX_VERSION


@part
def _event(
    data: U8,
    at: Any,
    end: int,
    key_start: int,
    key_end: int,
    max_amount: int,
    i: int,
    out: Parsed,
) -> bool:
    """Read one event into row ``i``; False if it is not plain.

    Compiled into its caller: a call hands on the arrays of ``out``, which costs as much as a field.
    """
    seen, price, quantity = 0, -1.0, 1
    at = skip(data, at, end)
    if at >= end or data[at] != 123:
        return False
    at = skip(data, at + 1, end)
    while at < end and data[at] == 34:
        name = at + 1
        at = text_end(data, name, end)
        if at < 0:
            return False
        field = word(data, name, at - name, _FIELD_TEXT, _FIELD_AT, _FIELD_OF)
        if field < 0 or seen & (1 << field):
            return False
        seen |= 1 << field
        at = skip(data, at + 1, end)
        if at >= end or data[at] != 58:
            return False
        at = skip(data, at + 1, end)
        if at >= end:
            return False
        longest = _longest(field)
        optional = field > _TYPE
        if optional and data[at] == 34 and at + 1 < end and data[at + 1] == 34:
            at += 2  # an empty text counts as absent
        elif data[at] == 34 and longest > 0:
            begin = at + 1
            at = text_end(data, begin, end)
            length = at - begin
            if at < 0 or length > longest or length == 0:
                return False
            if field == _EVENT_ID:
                out.id[i] = max(xxh3_64(data, begin, length), np.uint64(1))
            elif field == _USER_ID:
                if length != key_end - key_start:
                    return False
                if not same(data, begin, data, key_start, length):
                    return False
            elif field == _TYPE:
                kind = word(data, begin, length, _TYPE_TEXT, _TYPE_AT, _TYPE_OF)
                if kind < 0:
                    return False
                out.type[i] = _TYPE_CODE[kind]
            elif field == _ITEM:
                low = xxh3_64(data, begin, length) & np.uint64(0xFFFFFFFF)
                out.item[i] = max(low, np.uint64(1))
            elif field == _CATEGORY:
                low = xxh3_64(data, begin, length) & np.uint64(0xFFFF)
                out.category[i] = max(low, np.uint64(1))
            elif field == _ORDER:
                low = xxh3_64(data, begin, length) & np.uint64(ORDER_BITS)
                out.order[i] = max(low, np.uint64(1))
            elif field == _TIMEZONE and not is_timezone(data, begin, length):
                return False
            elif field == _CURRENCY:
                currency = currency_of(data, begin, at)
                if currency < 0:
                    return False
                out.currency[i] = currency
            at += 1
        elif 48 <= data[at] <= 57 and longest < 0:
            at, value, decimals = number(data, at, end)
            if at < 0:
                return False
            if field in (_PRICE, _DISCOUNT, _TAX):
                money = np.float64(value) / _POWERS[decimals]
                if money > MAX_PRICE:
                    return False
                if field == _PRICE:
                    price = money
                elif field == _DISCOUNT:
                    out.discount[i] = np.int64(np.rint(money * _UNIT))
            else:
                scale: Any = np.int64(_POWERS[decimals])
                if value % scale != 0:
                    return False
                value //= scale  # 1.0 is an integer
                if value < 1 or value > _largest(field):
                    return False
                if field == _EVENT_TIME:
                    out.time[i] = value
                elif field == _QUANTITY:
                    quantity = value
        elif is_null(data, at, end) and optional and field != _VERSION:
            at += 4
        else:
            return False
        at = skip(data, at, end)
        if at >= end:
            return False
        if data[at] == 44:
            at = skip(data, at + 1, end)
            continue
        if data[at] != 125 or skip(data, at + 1, end) != end:
            return False
        if seen & _REQUIRED != _REQUIRED:
            return False
        amount = np.rint(price * np.float64(quantity) * _UNIT) if price >= 0 else 0.0
        if amount > max_amount:
            return False
        out.amount[i] = np.int64(amount)
        out.quantity[i] = quantity
        return True
    return False


@kernel
def parse_events(data: U8, places: Places, bounds: Bounds, out: Parsed) -> Any:
    """Fill ``out`` with N events.

    Args:
        data: what holds the records.
        places: where their keys and values lie.
        bounds: what plain events keep to.
        out: the columns.
    """
    text = bytes_of(data)
    for i in range(len(places.offsets)):
        key, key_end = places.key_begins[i], places.key_ends[i]
        start, end = places.value_begins[i], places.value_ends[i]
        good = key >= 0 and start >= 0 and end - start <= bounds.max_bytes
        if good and bounds.partitions > 0:
            hashed = murmur2(text, key, key_end - key) & 0x7FFFFFFF
            good = hashed % bounds.partitions == bounds.partition
        out.plain[i] = good and _event(text, start, end, key, key_end, bounds.max_amount, i, out)
