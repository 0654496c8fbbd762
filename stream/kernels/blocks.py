"""Sorted keys and values -> the data blocks of a RocksDB table file.

See `stream/storage/table_files.py` for the file.

The format is that of RocksDB's own comments (table/block_based/block_builder.cc and table/format.cc
in 10.4). A block is

    entries | where the restarts begin, 4 bytes each | how many there are, 4 bytes

and behind it lie its kind of compression (none) and its checksum. An entry is

    bytes shared with the key before | further bytes of the key | bytes of the value, as varints
    those further bytes | kind and sequence number, 8 bytes | the value

At a restart, every 16 entries, nothing is shared. The twin is `rocksdict.SstFileWriter`, which
wants an object of Python for each key and each value.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models.history import I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8, xxh3_64
from stream.kernels.batches import ABSENT
from stream.kernels.buffers import put_bytes

BLOCK_BYTES: Final = 16 << 10
"""A block ends with the entry that makes it as long as this."""
KIND_BYTES: Final = 8
"""Behind each key."""
SEAL_BYTES: Final = 5
"""Behind each block: its kind of compression and its checksum."""
MOST_BYTES_BESIDE: Final = KIND_BYTES + 3 * 5 + 4 + 4 + SEAL_BYTES
"""The most that an entry takes beside its key and its value, its share of the block included."""
_RESTART_EVERY: Final = 16
_MOST_RESTARTS: Final = BLOCK_BYTES // (_RESTART_EVERY * (KIND_BYTES + 3)) + 2
_DELETION, _VALUE = 0, 1


class Run(NamedTuple):
    """N keys in strictly ascending order, and their values, as they lie in the bytes of `data`."""

    data: U8
    key_begins: I64
    key_ends: I64
    value_begins: I64
    """`ABSENT`: the key is deleted."""
    value_ends: I64


class Blocks(NamedTuple):
    """Of M data blocks."""

    ends: I64
    """Where each ends in the file, what lies behind it included."""
    entries: I64
    """How many entries there are up to its end."""


@kernel
def _put_varint(out: U8, at: int, number: int) -> int:
    while number >= 128:
        out[at] = (number & 127) | 128
        number >>= 7
        at += 1
    out[at] = number
    return at + 1


@kernel
def _put_word(out: U8, at: int, number: Any) -> int:
    """4 bytes, little-endian."""
    for i in range(4):
        out[at + i] = (number >> (8 * i)) & 255
    return at + 4


@kernel
def _shared(run: Run, a: int, b: int) -> int:
    """How many bytes two keys have in common at their beginning; -1 unless a lies before b."""
    at, other, data = run.key_begins[a], run.key_begins[b], run.data
    size, other_size = run.key_ends[a] - at, run.key_ends[b] - other
    for i in range(min(size, other_size)):
        if data[at + i] != data[other + i]:
            return i if data[at + i] < data[other + i] else -1
    return size if size < other_size else -1


@kernel
def write_blocks(
    run: Run, first: int, last: int, start: int, context: int, out: U8, blocks: Blocks
) -> Any:
    """Write some of a run as whole data blocks.

    Args:
        run: what is written, all of it.
        first: the first entry to write.
        last: where to stop, behind `first`.
        start: where in the file `out` begins.
        context: what each checksum of the file goes by, 32 bits, not 0.
        out: room for the entries, `MOST_BYTES_BESIDE` more than its key and its value for each.
        blocks: room for as many blocks as entries.

    Returns:
        (bytes, blocks) written; -1 bytes if the keys are not in ascending order.
    """
    restarts = np.empty(_MOST_RESTARTS, np.int64)
    at, count, i = 0, 0, first
    while i < last:
        begin, in_block = at, 0
        while i < last and at - begin < BLOCK_BYTES:
            shared = 0
            if i > 0:
                shared = _shared(run, i - 1, i)
                if shared < 0:
                    return -1, 0
            if in_block % _RESTART_EVERY == 0:
                restarts[in_block // _RESTART_EVERY] = at - begin
                shared = 0
            value, value_end = run.value_begins[i], run.value_ends[i]
            absent = value == ABSENT
            if absent:
                value, value_end = 0, 0
            key, key_end = run.key_begins[i] + shared, run.key_ends[i]
            at = _put_varint(out, at, shared)
            at = _put_varint(out, at, key_end - key + KIND_BYTES)
            at = _put_varint(out, at, value_end - value)
            at = put_bytes(out, at, run.data, key, key_end)
            out[at] = _DELETION if absent else _VALUE
            out[at + 1 : at + KIND_BYTES] = 0
            at = put_bytes(out, at + KIND_BYTES, run.data, value, value_end)
            in_block += 1
            i += 1
        number = (in_block + _RESTART_EVERY - 1) // _RESTART_EVERY
        for k in range(number):
            at = _put_word(out, at, restarts[k])
        at = _put_word(out, at, number)
        out[at] = 0
        place = start + begin
        checksum = np.int64(xxh3_64(out, begin, at - begin) & np.uint64(0xFFFFFFFF))
        checksum += context ^ ((place + (place >> 32)) & 0xFFFFFFFF)
        at = _put_word(out, at + 1, checksum)
        blocks.ends[count], blocks.entries[count] = start + at, i
        count += 1
    return at, count
