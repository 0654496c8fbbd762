"""Rows of the user table <-> stored records of layout 3, many at once; see `stream/layout.py`.

A stored record is

    the row's first 8 bytes | indexed_due, 8 bytes | the rest of the head, packed | ring | seal

Packed is as in Cap'n Proto: per word of 8 bytes a tag whose bits say which bytes are not zero, then
those; after a tag of 0 comes the number of further zero words. Times and counts have leading zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.history import I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8, read64, xxh3_64

GOOD, DAMAGED, OTHER = 0, 1, 2
"""Of a stored record: as written; not as written; not of these sizes or this layout."""
PLAIN_BYTES = 16
SEAL_BYTES = 8


class Places(NamedTuple):
    """Where things lie in a row; bytes."""

    fixed: int
    """Length of the head; the ring follows."""
    entry: int
    """Length of a ring entry."""
    slots: int
    due: int
    """`indexed_due`, kept apart."""
    model: int
    """`model`, 8 bytes."""
    hidden: int
    hidden_end: int


@kernel
def _word(row: U8, at: int, places: Places, stateless: bool) -> np.uint64:
    """8 bytes of the head as they are packed: 0 for what is kept elsewhere or not at all."""
    if at == places.due or (stateless and at == places.model):
        return np.uint64(0)
    word = read64(row, at)
    if stateless and places.hidden <= at < places.hidden_end:
        if at + 8 <= places.hidden_end:
            return np.uint64(0)
        word &= np.uint64(0xFFFFFFFF00000000)  # an odd number of states, 4 bytes each
    if at + 8 > places.fixed:
        word &= np.uint64(0xFFFFFFFF)
    return word


@kernel
def _pack_head(row: U8, places: Places, stateless: bool, out: U8, at: int) -> int:
    """Pack the head from its second word on; where in ``out`` it ends."""
    zeros = 0
    for begin in range(8, places.fixed, 8):
        word = _word(row, begin, places, stateless)
        if word:
            tag: Any = 0
            filled = at + 1
            for b in range(8):
                byte = (word >> np.uint64(8 * b)) & np.uint64(255)
                out[filled] = byte
                filled += byte != 0
                tag |= np.int64(byte != 0) << b
            out[at] = tag
            at, zeros = filled, 0
        elif 0 < zeros < 256:
            out[at - 1] = zeros
            zeros += 1
        else:
            out[at], out[at + 1] = 0, 0
            at += 2
            zeros = 1
    return at


@kernel
def pack_rows(
    table: U8, rows: I64, events: I64, places: Places, rebuilt: int, out: U8, ends: I64
) -> None:
    """Write the stored form of ``table[rows]``.

    Args:
        table: the arena, rows x bytes.
        rows: which.
        events: events of each row's history.
        places: where things lie.
        rebuilt: a history of at most so many events is stored without the model's state.
        out: room for all of them.
        ends: where in ``out`` each ends, to be filled.
    """
    at = 0
    for i in range(len(rows)):
        row, begin = table[rows[i]], at
        out[at : at + 8] = row[:8]
        out[at + 8 : at + 16] = row[places.due : places.due + 8]
        at = _pack_head(row, places, events[i] <= rebuilt, out, at + PLAIN_BYTES)
        ring = min(events[i], places.slots) * places.entry
        out[at : at + ring] = row[places.fixed : places.fixed + ring]
        at += ring
        sealed = xxh3_64(out, begin, at - begin)
        for b in range(8):  # big-endian, as xxhash's digest
            out[at + b] = (sealed >> np.uint64(56 - 8 * b)) & np.uint64(255)
        at += SEAL_BYTES
        ends[i] = at


@kernel
def _unpack_head(data: U8, at: int, end: int, row: U8, places: Places) -> int:
    """Fill the head from its second word on; where in ``data`` the ring begins, -1 if nowhere."""
    word: Any = 8
    while word < places.fixed:
        if at >= end:
            return -1
        tag: Any = data[at]
        at += 1
        if tag == 0:
            if at >= end:
                return -1
            word += 8 * (np.int64(data[at]) + 1)
            at += 1
            continue
        for b in range(8):
            if tag & (1 << b):
                if at >= end or word + b >= places.fixed:
                    return -1
                row[word + b] = data[at]
                at += 1
        word += 8
    return at


@kernel
def unpack_rows(
    data: U8, ends: I64, expected: U8, table: U8, rows: I64, places: Places, verdicts: I64
) -> None:
    """Fill ``table[rows]``, whose rings are zero, from stored records one behind the other.

    ``expected``: the six bytes with which records of this layout and these sizes begin.
    """
    begin = 0
    for i in range(len(rows)):
        end, row = ends[i] - SEAL_BYTES, table[rows[i]]
        verdicts[i] = GOOD
        if end - begin < PLAIN_BYTES:
            verdicts[i] = OTHER
        for b in range(6):
            if verdicts[i] == GOOD and data[begin + b] != expected[b]:
                verdicts[i] = OTHER
        if verdicts[i] == GOOD:
            sealed = xxh3_64(data, begin, end - begin)
            for b in range(8):
                if data[end + b] != (sealed >> np.uint64(56 - 8 * b)) & np.uint64(255):
                    verdicts[i] = DAMAGED
        if verdicts[i] == GOOD:
            row[: places.fixed] = 0
            row[:8] = data[begin : begin + 8]
            at = _unpack_head(data, begin + PLAIN_BYTES, end, row, places)
            ring = end - at
            if at < 0 or ring > places.slots * places.entry or ring % places.entry:
                verdicts[i] = DAMAGED
            else:
                row[places.due : places.due + 8] = data[begin + 8 : begin + 16]
                row[places.fixed : places.fixed + ring] = data[at:end]
        begin = ends[i]


def packed_bound(places: Places) -> int:
    """No stored record is longer than this without its ring."""
    words = -(-places.fixed // 8)
    return PLAIN_BYTES + 10 * words + SEAL_BYTES
