"""Kafka's record batches (magic 2, not compressed) -> where each record's parts lie.

The format is that of Kafka's documentation (Message Format, Record Batch). aiokafka makes an object
of each record, which costs more than what is done with it; it is also the twin that a test compares
with, and reads what is compressed or older (`stream/kafka/responses.py`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models.history import I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8

COUNT_AT: Final = 57
"""Where the head of a batch has the number of its records."""
COUNT_END: Final = 61
"""Where the head ends."""
ABSENT: Final = -1
_ATTRIBUTES_AT, _FIRST_TIME_AT, _MAX_TIME_AT = 21, 27, 35
_LOG_APPEND_TIME: Final = 0x08
_LONGEST_VARINT: Final = 10


class Places(NamedTuple):
    """Of N records; a key or a value that is null begins at `ABSENT`."""

    offsets: I64
    timestamps: I64
    key_begins: I64
    key_ends: I64
    value_begins: I64
    value_ends: I64

    @classmethod
    def empty(cls, count: int) -> Places:
        """Room for so many."""
        return cls(*np.empty((6, count), np.int64))

    def moved(self, distance: int) -> Places:
        """Those of the same records where their bytes lie so much further behind."""
        return Places(
            self.offsets,
            self.timestamps,
            np.where(self.key_begins == ABSENT, ABSENT, self.key_begins + distance),
            self.key_ends + distance,
            np.where(self.value_begins == ABSENT, ABSENT, self.value_begins + distance),
            self.value_ends + distance,
        )

    def first(self, count: int) -> Places:
        """Those of the first so many records."""
        return Places(*(column[:count].copy() for column in self))


@kernel
def _big_endian(data: U8, at: int, size: int) -> np.int64:
    number = np.uint64(0)
    for i in range(size):
        number = (number << np.uint64(8)) | np.uint64(data[at + i])
    return np.int64(number)


@kernel
def _varint(data: U8, at: int, end: int) -> Any:
    """(number, where it ends), the latter -1 where none is."""
    number = np.uint64(0)
    for i in range(_LONGEST_VARINT):
        if at + i >= end:
            return np.int64(0), -1
        byte = np.uint64(data[at + i])
        number |= (byte & np.uint64(127)) << np.uint64(7 * i)
        if byte < np.uint64(128):
            return np.int64(number >> np.uint64(1)) ^ -np.int64(number & np.uint64(1)), at + i + 1
    return np.int64(0), -1


@kernel
def _part(data: U8, at: int, end: int) -> Any:
    """(begin, end) of a key or value, with `ABSENT` for null; the end is -1 where none is."""
    length, at = _varint(data, at, end)
    if at < 0 or length > end - at:
        return ABSENT, -1
    if length < 0:
        return ABSENT, at
    return at, at + length


@kernel
def find_records(data: U8, begins: I64, ends: I64, first_offset: int, out: Places) -> Any:
    """Find the records of batches.

    Args:
        data: what holds the batches.
        begins: where each begins.
        ends: where each ends.
        first_offset: records before it are left out.
        out: room for as many records as the heads of the batches count.

    Returns:
        How many there are; -1 - b if batch b is malformed.
    """
    n = 0
    for b in range(len(begins)):
        begin, end = begins[b], ends[b]
        base = _big_endian(data, begin, 8)
        first_time = _big_endian(data, begin + _FIRST_TIME_AT, 8)
        appended = data[begin + _ATTRIBUTES_AT + 1] & _LOG_APPEND_TIME
        at = begin + COUNT_END
        for _ in range(_big_endian(data, begin + COUNT_AT, 4)):
            length, at = _varint(data, at, end)
            if at < 0 or length < 1 or length > end - at:
                return -1 - b
            stop = at + length
            later, at = _varint(data, at + 1, stop)  # behind the attributes, which mean nothing
            if at < 0:
                return -1 - b
            delta, at = _varint(data, at, stop)
            if at < 0:
                return -1 - b
            key_begin, key_end = _part(data, at, stop)
            if key_end < 0:
                return -1 - b
            value_begin, value_end = _part(data, key_end, stop)
            if value_end < 0:
                return -1 - b
            at = stop  # behind the headers
            if base + delta < first_offset:
                continue
            out.offsets[n] = base + delta
            out.timestamps[n] = first_time + later
            if appended:
                out.timestamps[n] = _big_endian(data, begin + _MAX_TIME_AT, 8)
            out.key_begins[n], out.key_ends[n] = key_begin, key_end
            out.value_begins[n], out.value_ends[n] = value_begin, value_end
            n += 1
        if at != end:
            return -1 - b
    return n
