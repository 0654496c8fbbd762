"""Pieces of plain JSON in a buffer: texts, numbers, words of a table, time zones, currencies.

Plain is ASCII without escapes, and numbers of few digits; anything else is left to the codec. A
buffer is an array of bytes, or a pointer to them (`models.kernels.raw.bytes_of`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.history import I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8

__all__ = [
    "EXACT_DIGITS",
    "currency_of",
    "is_null",
    "is_timezone",
    "number",
    "same",
    "skip",
    "text_end",
    "word",
    "word_table",
]

EXACT_DIGITS: Final = 15
"""So many decimal digits are exact in a double, and so is the power of ten that divides them: the
quotient is what a correct parser gives (Clinger, PLDI 1990)."""


_LONGEST: Final = 15


def word_table(words: tuple[str, ...]) -> tuple[U8, I64, NDArray[np.int8]]:
    """A table for `word`.

    Returns:
        The words as one array, where each begins with the end, and which one has a length and a
        first letter.

    Raises:
        ValueError: a word is too long, or two have the same length and first letter.
    """
    text = "".join(words).encode()
    starts = np.cumsum([0, *(len(word) for word in words)])
    which = np.full(32 * (_LONGEST + 1), -1, np.int8)
    for k, each in enumerate(words):
        of = 32 * len(each) + (ord(each[0]) & 31)
        if len(each) > _LONGEST or which[of] >= 0:
            raise ValueError(f"{each!r} needs another table of words")
        which[of] = k
    return np.frombuffer(text, np.uint8).copy(), starts.astype(np.int64), which


@kernel
def same(a: U8, a_at: int, b: U8, b_at: int, length: int) -> bool:
    """Whether so many bytes of two buffers are equal."""
    for i in range(length):  # noqa: SIM110  # numba knows no generator expressions
        if a[a_at + i] != b[b_at + i]:
            return False
    return True


@kernel
def word(data: U8, at: int, length: int, text: U8, starts: I64, which: NDArray[np.int8]) -> int:
    """Which word of a table (`word_table`) these bytes are, -1 for none."""
    if length < 1 or length > _LONGEST:
        return -1
    k = np.int64(which[32 * length + (data[at] & 31)])
    if k < 0 or not same(data, at, text, starts[k], length):
        return -1
    return int(k)


@kernel
def skip(data: U8, at: int, end: int) -> int:
    """The first place from ``at`` on that is no white space."""
    while at < end and data[at] <= 32:
        if data[at] != 32 and data[at] != 9 and data[at] != 10 and data[at] != 13:
            return at
        at += 1
    return at


@kernel
def text_end(data: U8, at: int, end: int) -> int:
    """Where the text that begins at ``at`` has its closing quote, -1 if it is not plain."""
    while at < end:
        byte = data[at]
        if byte == 34:
            return at
        if byte < 32 or byte > 126 or byte == 92:
            return -1
        at += 1
    return -1


@kernel
def number(data: U8, at: int, end: int) -> tuple[int, int, int]:
    """(end, digits as an integer, how many of them are decimals); end is -1 if it is not plain."""
    value: Any = 0
    begin, point = at, -1
    while at < end:
        byte = data[at]
        if 48 <= byte <= 57:
            value = value * 10 + np.int64(byte - 48)
        elif byte == 46 and point < 0 and at > begin:
            point = at
        else:
            break
        at += 1
        if at - begin > EXACT_DIGITS:
            return -1, 0, 0
    digits = at - begin if point < 0 else point - begin
    if digits == 0 or (digits > 1 and data[begin] == 48) or point == at - 1:
        return -1, 0, 0
    return at, value, 0 if point < 0 else at - point - 1


@kernel
def is_null(data: U8, at: int, end: int) -> bool:
    """Whether `null` stands at ``at``."""
    return (
        end - at >= 4
        and data[at] == 110
        and data[at + 1] == 117
        and data[at + 2] == 108
        and data[at + 3] == 108
    )


@kernel
def _between(data: U8, at: int, low: int, high: int) -> bool:
    """Whether two digits are a number within bounds."""
    tens, ones = np.int64(data[at]) - 48, np.int64(data[at + 1]) - 48
    return bool(0 <= tens <= 9 and 0 <= ones <= 9 and low <= 10 * tens + ones <= high)


@kernel
def is_timezone(data: U8, at: int, length: int) -> bool:
    """Whether text is what `schemas.events.TIMEZONE_PATTERN` matches."""
    if data[at] == 43 or data[at] == 45:
        if length == 6 and data[at + 3] != 58:
            return False
        if length not in (5, 6):
            return False
        return _between(data, at + 1, 0, 23) and _between(data, at + length - 2, 0, 59)
    begins = True  # of a part between slashes
    for i in range(length):
        byte = data[at + i]
        letter = 65 <= byte <= 90 or 97 <= byte <= 122
        if byte == 47:
            if begins:
                return False
            begins = True
            continue
        other = 48 <= byte <= 57 or byte in (95, 43, 45)
        if not letter and (i == 0 or not other):
            return False
        begins = False
    return not begins


@kernel
def currency_of(data: U8, at: int, end: int) -> int:
    """What `models.money.currency_code` makes of three letters; -1 for anything else."""
    while at < end and data[at] == 32:
        at += 1
    while end > at and data[end - 1] == 32:
        end -= 1
    if end - at != 3:
        return -1
    code: Any = 0
    for i in range(at, end):
        letter = data[i] & 0xDF  # in capitals
        if letter < 65 or letter > 90:
            return -1
        code = code << 8 | np.int64(letter)
    return int(code)
