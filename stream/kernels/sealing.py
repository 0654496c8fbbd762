"""Rows of the user table <-> stored records of layout 7, many at once.

See `stream/pipeline/layout.py` for the layouts.

A stored record is

    the row's first 8 bytes | indexed_due, 8 bytes | the rest of the head, packed
    | the used ring slots, packed
    | of few users the overflow: 8 bytes of its own, its entries, packed | seal

Packed is as in Cap'n Proto: per word of 8 bytes a tag whose bits say which bytes are not zero, then
those; after a tag of 0 comes the number of further zero words. Times and counts have leading zeros.
A slot's first word, its time, is packed as the distance from the slot before; only lines of orders
have the word that tells of orders, and only those with a discount the word behind it. The
overflow (`models/overflow.py`) has its length in the head.
Layouts 3 and 4 had neither, and layout 3 the ring as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.history import DISCOUNTED, I64, LINE
from models.kernels.jit import kernel
from models.kernels.raw import bytes_at, bytes_of, write64
from models.kernels.xxh3 import U8, read64, swapped, xxh3_64

GOOD, DAMAGED, OTHER = 0, 1, 2
"""Of a stored record: as written; not as written; not of these sizes or this layout."""
PLAIN_BYTES = 16
SEAL_BYTES = 8
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)


class Places(NamedTuple):
    """Where things lie in a row; bytes."""

    fixed: int
    """Length of the head; the ring follows."""
    entry: int
    """Length of a ring entry."""
    common: int
    """So much of it is packed of every entry,"""
    line: int
    """so much of those with `LINE` in their flags, and all of those with `DISCOUNTED`."""
    flags: int
    """Where in an entry its flags are."""
    slots: int
    overflow: int
    """`overflow`, 4 bytes: entries beyond the ring."""
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
        word &= np.uint64(0xFFFFFFFF00000000)  # an odd number of states, 4 bytes each
    if at + 8 > places.fixed:
        word &= np.uint64(0xFFFFFFFF)
    return word


@kernel
def _pack_word(word: np.uint64, out: U8, at: Any, zeros: Any) -> Any:
    """Pack one word behind so many of zero; (where in ``out`` it ends, zero words now)."""
    if not word:
        return _pack_zeros(1, out, at, zeros)
    if not (word - _ONES) & ~word & _HIGHS:  # no byte of it is zero
        out[at] = np.uint8(255)
        write64(out, at + 1, word)
        return at + 9, 0
    tag: Any = 0
    filled = at + 1
    for b in range(8):
        byte = (word >> np.uint64(8 * b)) & np.uint64(255)
        out[filled] = np.uint8(byte)
        filled += np.int64(byte != 0)
        tag |= np.int64(byte != 0) << b
    out[at] = np.uint8(tag)
    return filled, 0


@kernel
def _pack_zeros(count: Any, out: U8, at: Any, zeros: Any) -> Any:
    """Pack so many words of zero behind others; as `_pack_word`."""
    while count > 0:
        if 0 < zeros < 256:
            more = min(count, 256 - zeros)
            zeros += more
            out[at - 1] = np.uint8(zeros - 1)
            count -= more
        else:
            out[at], out[at + 1] = np.uint8(0), np.uint8(0)
            at, zeros = at + 2, 1
            count -= 1
    return at, zeros


@kernel
def _pack_head(row: U8, places: Places, stateless: bool, out: U8, at: Any) -> Any:
    """Pack the head from its second word on; where in ``out`` it ends."""
    zeros, begin = 0, 8
    while begin < places.fixed:
        nothing = 0
        if stateless and places.hidden <= begin < places.hidden_end:
            nothing = (places.hidden_end - begin) // 8
        else:
            while begin + 8 * nothing + 8 <= places.fixed and read64(row, begin + 8 * nothing) == 0:
                nothing += 1
        if nothing > 0:
            at, zeros = _pack_zeros(nothing, out, at, zeros)
            begin += 8 * nothing
        else:
            word = _word(row, begin, places, stateless)
            at, zeros = _pack_word(word, out, at, zeros)
            begin += 8
    return at


@kernel
def _packed_size(flags: Any, places: Places) -> int:
    """How much of an entry with these flags is packed, bytes."""
    if flags & DISCOUNTED:
        return places.entry
    return places.line if flags & LINE else places.common


@kernel
def _pack_entries(source: U8, first: Any, places: Places, count: Any, out: U8, at: Any) -> Any:
    """Pack entries that begin at ``first``; where in ``out`` they end."""
    before = np.uint64(0)
    for begin in range(first, first + count * places.entry, places.entry):
        zeros = 0
        time = read64(source, begin)
        at, zeros = _pack_word(time - before, out, at, zeros)
        before = time
        size = _packed_size(source[begin + places.flags], places)
        for rest in range(begin + 8, begin + size, 8):
            at, zeros = _pack_word(read64(source, rest), out, at, zeros)
    return at


@kernel
def pack_rows(
    table: U8,
    rows: I64,
    events: I64,
    held: I64,
    older: U8,
    purchases: I64,
    places: Places,
    rebuilt: int,
    out: U8,
    ends: I64,
) -> None:
    """Write the stored form of ``table[rows]``.

    Args:
        table: the arena, rows x bytes, contiguous.
        rows: which.
        events: events of each row's history.
        held: entries of each row's overflow.
        older: these entries, row by row.
        purchases: the newest purchase before each row's overflow, ms.
        places: where things lie.
        rebuilt: a history of at most so many events is stored without the model's state.
        out: room for all of them.
        ends: where in ``out`` each ends, to be filled.
    """
    stored, more, width = bytes_of(out), bytes_of(older), table.shape[1]
    at = taken = 0
    for i in range(len(rows)):
        row, begin = bytes_at(table, rows[i] * width), at
        write64(stored, at, read64(row, 0))
        write64(stored, at + 8, read64(row, places.due))
        at = _pack_head(row, places, events[i] <= rebuilt, stored, at + PLAIN_BYTES)
        slots = min(events[i], places.slots)
        at = _pack_entries(row, places.fixed, places, slots, stored, at)
        if held[i] > 0:
            write64(stored, at, np.uint64(purchases[i]))
            at = _pack_entries(more, taken, places, held[i], stored, at + 8)
            taken += held[i] * places.entry
        write64(stored, at, swapped(xxh3_64(stored, begin, at - begin)))  # as xxhash's digest
        at += SEAL_BYTES
        ends[i] = at


@kernel
def _write64(out: U8, at: int, word: np.uint64) -> None:
    for b in range(8):
        out[at + b] = (word >> np.uint64(8 * b)) & np.uint64(255)


@kernel
def _unpack(data: U8, at: int, end: int, row: U8, word: Any, limit: int) -> Any:
    """Fill a row from ``word`` on until ``limit`` is reached or the data ends.

    (where in ``data`` it ends, where in ``row``), the former -1 if what is there cannot be.
    """
    while word < limit and at < end:
        tag: Any = data[at]
        at += 1
        if tag == 0:
            if at >= end:
                return -1, word
            word += 8 * (np.int64(data[at]) + 1)
            at += 1
            continue
        for b in range(8):
            if tag & (1 << b):
                if at >= end or word + b >= limit:
                    return -1, word
                row[word + b] = data[at]
                at += 1
        word += 8
    return at, word


@kernel
def unpack_head(data: U8, at: int, end: int, row: U8, places: Places) -> int:
    """Fill the head from its second word on; where in ``data`` the ring begins, -1 if nowhere."""
    at, word = _unpack(data, at, end, row, 8, places.fixed)
    return at if word >= places.fixed else -1


@kernel
def _unpack_entries(
    data: U8, at: int, end: int, row: U8, first: int, places: Places, most: int
) -> int:
    """Fill at most ``most`` entries that begin at ``first``; where in ``data`` they end, or -1."""
    time = np.uint64(0)
    for begin in range(first, first + most * places.entry, places.entry):
        if at >= end:
            break
        common = begin + places.common
        at, filled = _unpack(data, at, end, row, begin, common)
        if at < 0 or filled != common:
            return -1
        whole = begin + _packed_size(row[begin + places.flags], places)
        if whole > common:
            at, filled = _unpack(data, at, end, row, common, whole)
            if at < 0 or filled != whole:
                return -1
        time += read64(row, begin)
        _write64(row, begin, time)
    return at


@kernel
def unpack_overflow(data: U8, at: int, end: int, places: Places, out: U8) -> Any:
    """Fill entries of zeros from what lies behind a ring: the purchase before them, -1 if damaged.

    Args:
        data: holds the record.
        at: where the overflow begins.
        end: where it ends.
        places: where things lie.
        out: room for as many entries as the record says.
    """
    if at + 8 > end:
        return -1
    ended = _unpack_entries(data, at + 8, end, out, 0, places, len(out) // places.entry)
    return np.int64(read64(data, at)) if ended == end else -1


@kernel
def unpack_rows(
    data: U8,
    ends: I64,
    expected: U8,
    table: U8,
    rows: I64,
    places: Places,
    verdicts: I64,
    overflows: I64,
) -> None:
    """Fill ``table[rows]``, whose rings are zero, from stored records one behind the other.

    ``expected``: the six bytes with which records of this layout and these sizes begin.
    ``overflows``: to be filled with where in ``data`` each overflow begins, -1 for none.
    """
    begin = 0
    for i in range(len(rows)):
        end, row = ends[i] - SEAL_BYTES, table[rows[i]]
        verdicts[i], overflows[i] = GOOD, -1
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
            at = unpack_head(data, begin + PLAIN_BYTES, end, row, places)
            if at >= 0:
                at = _unpack_entries(data, at, end, row, places.fixed, places, places.slots)
            row[places.due : places.due + 8] = data[begin + 8 : begin + 16]
            held = row[places.overflow : places.overflow + 4].any()
            if at < 0 or (at < end) != held:
                verdicts[i] = DAMAGED
            elif held:
                overflows[i] = at
        begin = ends[i]


def packed_bound(places: Places) -> int:
    """No stored record is longer than this without its ring, whose slots have `slot_bound` each."""
    words = -(-places.fixed // 8)
    return PLAIN_BYTES + 10 * words + SEAL_BYTES


def slot_bound(places: Places) -> int:
    """No slot of the ring takes more, packed."""
    return 10 * places.entry // 8
