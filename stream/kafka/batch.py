"""Messages in columns -> batches that aiokafka's producer takes in place of those it makes itself.

The head is that of KIP-98, see `_HEAD`; the records are written by `stream/kernels/packing.py`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np
from crc32c import crc32c

from stream.kernels.batches import COUNT_END
from stream.kernels.packing import measure_batch, write_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.kernels.xxh3 import U8
    from stream.pipeline.packed import Packed

_BEFORE: Final = struct.Struct(">qiibI")
"""Base offset, bytes behind the field, leader's epoch, magic, CRC-32C of all that follows. The
broker has the last word on the first and the third."""
_HEAD: Final = struct.Struct(">hiqqqhii")
"""Attributes, last place, first and latest time, producer's id, its epoch, number of the first
record in the producer's sequence, number of records. What the checksum covers begins here."""
_LENGTH_END: Final = 12
_MAGIC: Final = 2
_TRANSACTIONAL: Final = 0x10
_NO_PRODUCER: Final = (-1, -1, 0)


class Batch:
    """A full batch, with what aiokafka's accumulator and sender ask of a builder.

    The head is written last: only when its turn comes to be sent does a batch learn its number.
    """

    def __init__(self, buffer: bytearray, count: int, now_ms: int, *, transactional: bool) -> None:
        """Take over a buffer with `count` records behind the room for the head."""
        self._buffer = buffer
        self._count = count
        self._time = now_ms
        self._attributes = _TRANSACTIONAL if transactional else 0
        self._producer = _NO_PRODUCER
        self._done = False

    def record_count(self) -> int:
        """Return the number of records."""
        return self._count

    def size(self) -> int:
        """Return the number of bytes."""
        return len(self._buffer)

    def closed(self) -> bool:
        """Whether nothing can be added."""
        return True

    def close(self) -> None:
        """Do nothing: it is closed."""

    def set_producer(self, producer_id: int, epoch: int, first: int) -> None:
        """Learn who sends it, and the number of its first record in the producer's sequence."""
        self._producer = (producer_id, epoch, first)

    def built(self) -> bytearray:
        """Return the whole batch; a second try to send it gets the same."""
        if not self._done:
            self._done = True
            buffer, last, time = self._buffer, self._count - 1, self._time
            fields = (self._attributes, last, time, time, *self._producer, self._count)
            _HEAD.pack_into(buffer, _BEFORE.size, *fields)
            crc = crc32c(memoryview(buffer)[_BEFORE.size :])
            _BEFORE.pack_into(buffer, 0, 0, len(buffer) - _LENGTH_END, -1, _MAGIC, crc)
        return self._buffer

    # aiokafka's names for them
    _set_producer_state = set_producer
    _build = built


def batches_of(
    parts: Sequence[Packed], now_ms: int, limit: int, *, transactional: bool
) -> Iterator[Batch]:
    """Messages in batches of less than `limit` bytes; one that is larger has a batch of its own."""
    if not parts:
        return
    key_sizes = np.concatenate([part.key_sizes for part in parts])
    value_sizes = np.concatenate([part.value_sizes for part in parts])
    source, start = _Source(parts), 0
    while start < len(key_sizes):
        count, size = measure_batch(key_sizes, value_sizes, start, limit)
        buffer = bytearray(size)
        source.write(count, np.frombuffer(buffer, np.uint8))
        start += count
        yield Batch(buffer, count, now_ms, transactional=transactional)


class _Source:
    """Where in which part the next message lies."""

    def __init__(self, parts: Sequence[Packed]) -> None:
        self._parts = iter(parts)
        self._part = next(self._parts)
        self._next = self._key_at = self._value_at = 0

    def write(self, count: int, out: U8) -> None:
        """Write so many records behind the head."""
        place, at = 0, COUNT_END
        while place < count:
            part = self._part
            if self._next == len(part):
                self._part = next(self._parts)
                self._next = self._key_at = self._value_at = 0
                continue
            stop = min(self._next + count - place, len(part))
            at, self._key_at, self._value_at = write_records(
                part.keys,
                part.key_sizes,
                self._key_at,
                part.values,
                part.value_sizes,
                self._value_at,
                self._next,
                stop,
                place,
                out,
                at,
            )
            place += stop - self._next
            self._next = stop
