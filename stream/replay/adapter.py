"""What a dataset adapter is: the lines of one file format in, events or rejects out.

An adapter only maps. Whether an event is valid is judged once, by `schemas.codec`, so that a replay
refuses exactly what a worker would refuse.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from schemas.events import Event

__all__ = [
    "AS_FOUND",
    "Adapter",
    "DateOrder",
    "Decimal",
    "Kind",
    "LineError",
    "Parsed",
    "ParsedLine",
    "Rejected",
    "Wanted",
    "identifier",
    "integer",
    "user_of",
]


Kind = Literal["unparsed", "invalid"]
"""The text of a line cannot be read; or it can, but describes no event."""


_MAX_DIGITS: Final = 20
_NO_IDS: Final = frozenset(
    {
        *("", "nan", "null", "none", "na", "n/a", "<na>", "(not set)"),
        "00000000-0000-0000-0000-000000000000",
    }
)
_FLOAT_ID: Final = re.compile(r"\d+\.0+")
_SCIENTIFIC_ID: Final = re.compile(r"\d(?:\.\d+)?[eE]\+\d{2,3}")
_EXACT: Final = 2**53
"""Whole numbers up to this are exact in double precision."""


class LineError(ValueError):
    """One line gives no event.

    Attributes:
        reason: alike for all lines with the same fault, so that they can be counted by it.
        kind: see `Kind`.
    """

    def __init__(self, reason: str, kind: Kind = "unparsed") -> None:
        """Keep both."""
        super().__init__(reason)
        self.reason = reason
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line, or one entry of it, that gives no event.

    Attributes:
        line: line of the file, counted from 1.
        reason: few distinct texts, so that rejects can be counted by it.
        kind: see `Kind`.
    """

    line: int
    reason: str
    kind: Kind = "unparsed"


Parsed = Event | bytes | Rejected
"""An event; or the bytes of one that is already in the product's own format; or a reject."""

ParsedLine = tuple[int, Parsed]
"""Line in the file, counted from 1, and what it gave."""


DateOrder = Literal["dmy", "mdy"]
Decimal = Literal[".", ","]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the user says a file is written; None: the file is to tell."""

    dates: DateOrder | None = None
    """Order of day and month where the year is not in front."""
    decimal: Decimal | None = None
    """The decimal sign."""


AS_FOUND: Final = Wanted()


class Adapter(Protocol):
    """Reads one public dataset's own files."""

    name: str
    """As given to `--format`; the first part of every event id."""

    def fits(self, line: bytes) -> bool:
        """Whether a file that begins with this line may be one of this format."""
        ...

    def read(self, path: Path, wanted: Wanted = AS_FOUND) -> Iterator[ParsedLine]:
        """Yield every line of the file, in file order; `wanted` says how it writes values.

        Raises:
            ReplayError: the file is missing, unreadable, of another format altogether, or leaves
                open what `wanted` could say.
        """
        ...


def identifier(text: str) -> str | None:
    """Read an id as text; None where there is none.

    No id is: empty text, what data frames and analytics write for a missing value (nan, null,
    None, NA, (not set)), and the nil UUID. A whole number that met a missing one in a data frame
    ("17850.0") is read as that number.

    Raises:
        LineError: a number so large, or in such a notation, that it has lost digits.
    """
    text = text.strip()
    if text.isdecimal():
        return text
    if text.lower() in _NO_IDS:
        return None
    if _FLOAT_ID.fullmatch(text):
        whole = text.partition(".")[0]
        if int(whole) > _EXACT:
            raise LineError("id is a number that lost digits: write ids as text", "invalid")
        return whole
    if _SCIENTIFIC_ID.fullmatch(text):
        raise LineError("id is in scientific notation: write ids as text", "invalid")
    return text


def user_of(text: str) -> str:
    """Read the id of a user.

    Raises:
        LineError: there is none, or it has lost digits.
    """
    user = identifier(text)
    if user is None:
        raise LineError("no user", "invalid")
    return user


def integer(text: str) -> int:
    """Read a time of decimal digits with an optional minus; unlike `int`, nothing else.

    Raises:
        LineError: it is no such number.
    """
    if not (text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= _MAX_DIGITS):
        raise LineError("time is not a number")
    return int(text)
