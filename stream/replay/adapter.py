"""What a dataset adapter is: the lines of one file format in, events or rejects out.

An adapter only maps. Whether an event is valid is judged once, by `schemas.codec`, so that a replay
refuses exactly what a worker would refuse.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Protocol

from schemas.events import Event

__all__ = [
    "Adapter",
    "Kind",
    "LineError",
    "Parsed",
    "ParsedLine",
    "Rejected",
    "integer",
    "milliseconds",
    "price_of",
]


Kind = Literal["unparsed", "invalid"]
"""The text of a line cannot be read; or it can, but describes no event."""


_MAX_DIGITS: Final = 20


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


class Adapter(Protocol):
    """Reads one public dataset's own files."""

    name: str
    """As given to `--format`; the first part of every event id."""

    def read(self, path: Path) -> Iterator[ParsedLine]:
        """Yield every line of the file, in file order.

        Raises:
            ReplayError: the file is missing, unreadable, or of another format altogether.
        """
        ...


def integer(text: str) -> int:
    """Read a time of decimal digits with an optional minus; unlike `int`, nothing else.

    Raises:
        LineError: it is no such number.
    """
    if not (text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= _MAX_DIGITS):
        raise LineError("time is not a number")
    return int(text)


def milliseconds(text: str) -> int:
    """Read "2019-10-01 00:00:00 UTC" or ISO 8601 as milliseconds; without a zone it is UTC.

    Raises:
        LineError: it is no date.
    """
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise LineError("time is not a date") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def price_of(text: str) -> float | None:
    """Read a price; an empty text is none.

    Raises:
        LineError: it is no finite number.
    """
    if not text:
        return None
    try:
        price = float(text)
    except ValueError:
        raise LineError("price is not a number") from None
    if not math.isfinite(price):
        raise LineError("price is not a number")
    return price
