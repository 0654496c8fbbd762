"""Messages in columns -> the records of one Kafka batch (magic 2, not compressed, no headers).

The format is that of KIP-98 and of Kafka's documentation (Message Format, Record): each record is

    length | attributes, 0 | time since the batch's first record | place in the batch
    | length of the key, key | length of the value, value | number of headers

where all but the attributes, a byte, and what is copied are varints. All records of a batch have
the same time here. aiokafka's builder is the twin that a test compares with, bit by bit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models.history import I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8
from stream.kernels.batches import COUNT_END
from stream.kernels.buffers import put_bytes

_AROUND: Final = 3
"""Bytes of a record that are always the same: attributes, time since the first, no headers."""


@kernel
def _varint_size(number: int) -> int:
    """Bytes that `_put_varint` takes."""
    rest = np.uint64((number << 1) ^ (number >> 63)) >> np.uint64(7)
    size = 1
    while rest:
        rest >>= np.uint64(7)
        size += 1
    return size


@kernel
def _put_varint(number: int, out: U8, at: int) -> int:
    """Write a number, its sign in the lowest bit; where it ends."""
    rest = np.uint64((number << 1) ^ (number >> 63))
    while rest > np.uint64(127):
        out[at] = np.uint8(rest & np.uint64(127)) | np.uint8(128)
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@kernel
def _part_size(size: int) -> int:
    """Bytes of a key or a value with its length."""
    return _varint_size(size) + max(size, 0)


@kernel
def _body_size(place: int, key_size: int, value_size: int) -> int:
    """Bytes of a record behind its length."""
    return _AROUND + _varint_size(place) + _part_size(key_size) + _part_size(value_size)


@kernel
def measure_batch(key_sizes: I64, value_sizes: I64, start: int, limit: int) -> Any:
    """How many messages from `start` on a batch smaller than `limit` bytes takes, and its bytes.

    Args:
        key_sizes: bytes of each message's key, negative for null.
        value_sizes: likewise.
        start: the batch's first message, which it takes whatever its size.
        limit: bytes that it does not reach otherwise.
    """
    size, count = COUNT_END, 0
    for i in range(start, len(key_sizes)):
        body = _body_size(count, key_sizes[i], value_sizes[i])
        grown = size + _varint_size(body) + body
        if count and grown >= limit:
            break
        size = grown
        count += 1
    return count, size


@kernel
def _put_part(data: U8, begin: int, size: int, out: U8, at: int) -> int:
    """Write a key or a value with its length; where it ends."""
    at = _put_varint(size, out, at)
    return put_bytes(out, at, data, begin, begin + size) if size > 0 else at


@kernel
def write_records(
    keys: U8,
    key_sizes: I64,
    key_at: int,
    values: U8,
    value_sizes: I64,
    value_at: int,
    start: int,
    stop: int,
    place: int,
    out: U8,
    at: int,
) -> Any:
    """Write messages as records of a batch.

    Args:
        keys: those of all messages, one behind the other.
        key_sizes: bytes of each, negative for null.
        key_at: where the first message's key begins.
        values: as the keys.
        value_sizes: likewise.
        value_at: likewise.
        start: the first message to be written.
        stop: the first that is not.
        place: which record of the batch the first one is.
        out: room for as much as `measure_batch` says.
        at: where in it the first one begins.

    Returns:
        (where the last one ends, where the next message's key begins, where its value begins)
    """
    for i in range(start, stop):
        key_size, value_size = key_sizes[i], value_sizes[i]
        at = _put_varint(_body_size(place, key_size, value_size), out, at)
        out[at], out[at + 1] = 0, 0
        at = _put_varint(place, out, at + 2)
        at = _put_part(keys, key_at, key_size, out, at)
        at = _put_part(values, value_at, value_size, out, at)
        out[at] = 0
        at += 1
        place += 1
        key_at += max(key_size, 0)
        value_at += max(value_size, 0)
    return at, key_at, value_at
