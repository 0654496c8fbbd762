"""Orders byte strings that lie in one array: the twin is `sorted`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.history import I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8

U64s = NDArray[np.uint64]
_WORD: Final = 8


@kernel
def _less(data: U8, begins: I64, ends: I64, a: int, b: int) -> bool:
    """Whether text a comes before text b."""
    at, other = begins[a], begins[b]
    size, other_size = ends[a] - at, ends[b] - other
    for i in range(min(size, other_size)):
        if data[at + i] != data[other + i]:
            return bool(data[at + i] < data[other + i])
    return bool(size < other_size)


@kernel
def leading_words(data: U8, begins: I64, ends: I64) -> Any:
    """Of N texts the first 8 bytes behind what all have in common, as numbers that order alike."""
    count = len(ends)
    words = np.zeros(count, np.uint64)
    common = ends[0] - begins[0] if count else 0
    for i in range(count):
        common = min(common, ends[i] - begins[i])
        for k in range(common):
            if data[begins[i] + k] != data[begins[0] + k]:
                common = k
                break
    for i in range(count):
        for at in range(begins[i] + common, begins[i] + common + _WORD):
            byte = data[at] if at < ends[i] else 0
            words[i] = (words[i] << np.uint64(8)) | np.uint64(byte)
    return words


@kernel
def stable_order(words: U64s, data: U8, begins: I64, ends: I64) -> Any:
    """The order of N texts by their words, then by their bytes; equal ones stay as they are.

    Merges, so that no input takes it longer than another.

    Args:
        words: of each text.
        data: what holds the texts.
        begins: where each begins.
        ends: where each ends.
    """
    count = len(ends)
    order, merged = np.arange(count), np.empty(count, np.int64)
    keys, merged_keys = words.copy(), np.empty(count, np.uint64)
    width = 1
    while width < count:
        for lo in range(0, count, 2 * width):
            middle, end = min(lo + width, count), min(lo + 2 * width, count)
            i, j = lo, middle
            for k in range(lo, end):
                right = i >= middle
                if not right and j < end:
                    right = keys[j] < keys[i] or (
                        keys[j] == keys[i] and _less(data, begins, ends, order[j], order[i])
                    )
                if right:
                    merged[k], merged_keys[k] = order[j], keys[j]
                    j += 1
                else:
                    merged[k], merged_keys[k] = order[i], keys[i]
                    i += 1
        order, merged = merged, order
        keys, merged_keys = merged_keys, keys
        width *= 2
    return order


@kernel
def newest_in_order(data: U8, begins: I64, ends: I64) -> Any:
    """The last one of each group of equal texts, in the order of the texts: M of N."""
    order = stable_order(leading_words(data, begins, ends), data, begins, ends)
    count = 0
    for place in range(len(order)):
        follows = place + 1 < len(order)
        if follows and not _less(data, begins, ends, order[place], order[place + 1]):
            continue
        order[count] = order[place]
        count += 1
    return order[:count]


@kernel
def timer_entries(data: U8, begins: I64, ends: I64, order: I64, dues: I64, out: U8) -> Any:
    """Write entries of the timer index one behind the other; where each ends.

    An entry is "t", the due time in 8 bytes, big-endian, and the user's key.

    Args:
        data: what holds the keys.
        begins: where each begins.
        ends: where each ends.
        order: which keys, in which order.
        dues: of each key, ms.
        out: room for all of them.
    """
    stops, at = np.empty(len(order), np.int64), 0
    for place in range(len(order)):
        i = order[place]
        out[at] = 116
        for b in range(8):
            out[at + 1 + b] = (dues[i] >> (56 - 8 * b)) & 255
        at += 9
        for k in range(begins[i], ends[i]):
            out[at] = data[k]
            at += 1
        stops[place] = at
    return stops
