"""How one file writes its dates and its decimals: decided once, from all of it, or asked for.

`01/12/2010` is a day in December or in January, `1.234` is more than a thousand or little more than
one. One line cannot tell, the whole column nearly always can. What is not ambiguous (a date that
begins with the year, a number without separators) is read without looking at the rest of the file.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final, TypeVar

from stream.replay.adapter import DateOrder, Decimal, LineError, Wanted, identifier
from stream.replay.errors import ReplayError

__all__ = ["Cells", "Conventions"]

Way = TypeVar("Way", DateOrder, Decimal)

Cells = Iterable[tuple[int, list[str], list[str]]]
"""Per data line: its number, its dates, its numbers."""

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
        start=1,
    )
}
_CLOCK: Final = (
    r"(?:(?:\s+|T)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?$"
)
_YEAR_FIRST: Final = re.compile(
    r"(?P<year>\d{4})([-/.])(?P<month>\d{1,2})\2(?P<day>\d{1,2})" + _CLOCK
)
_YEAR_LAST: Final = re.compile(
    r"(?P<first>\d{1,2})([-/.])(?P<other>\d{1,2})\2(?P<year>\d{4}|\d{2})" + _CLOCK
)
_NAMED: Final = re.compile(
    r"(?P<day>\d{1,2})[-/. ](?P<month>[A-Za-z]{3})[a-z]*[-/., ]+(?P<year>\d{4}|\d{2})" + _CLOCK
)
_NUMBER: Final = re.compile(r"[+-]?\d[\d.,' \u00a0\u202f]*")
_BLANKS: Final = re.compile(r"[' \u00a0\u202f]")
_PLAIN: Final = re.compile(r"[+-]?\d+(?:\.(?:\d{1,2}|\d{4,}))?")
"""A number that means the same under either decimal sign, or is no number under the other."""
_GROUP: Final = 3
"""Digits between thousands separators."""
_NO_DATE: Final = "time is not a date"


class Conventions:
    """Reads dates and numbers of one file."""

    def __init__(self, path: Path, wanted: Wanted, cells: Callable[[], Cells]) -> None:
        """Look at nothing yet.

        Args:
            path: named in errors.
            wanted: what the user said.
            cells: reads the dates and numbers of the whole file; called at most twice.
        """
        self._path = path
        self._wanted = wanted
        self._cells = cells
        self._decimal = wanted.decimal
        self._milliseconds = lru_cache(maxsize=4096)(self._date)

    def milliseconds(self, text: str) -> int:
        """A date, with or without a time of day, as ms since 1970; without a zone it is UTC.

        Raises:
            LineError: it is no date, or one that the order of the file's dates does not allow.
            ReplayError: the file leaves the order of day and month open.
        """
        return self._milliseconds(text)

    def price(self, text: str) -> float | None:
        """A price; None where there is none: empty, nan, null.

        Raises:
            LineError: it is no finite number.
            ReplayError: the file leaves its decimal sign open.
        """
        return None if identifier(text) is None else self.number(text, "price")

    def number(self, text: str, what: str) -> float:
        """A finite number, with or without thousands separators; `what` names it in the error.

        Raises:
            LineError: it is none.
            ReplayError: the file leaves its decimal sign open.
        """
        text = text.strip()
        if _NUMBER.fullmatch(text) and not (_PLAIN.fullmatch(text) and self._decimal != ","):
            text = _BLANKS.sub("", text)
            if "." in text or "," in text:
                text = _grouped(text, self.decimal, what)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise LineError(f"{what} is not a number")
        return number

    @cached_property
    def dates(self) -> DateOrder:
        """Order of day and month, from every date of the file.

        Raises:
            ReplayError: no date tells, or some contradict others.
        """
        if self._wanted.dates is not None:
            return self._wanted.dates
        return self._decided(
            ((line, _order(text)) for line, dates, _ in self._cells() for text in dates),
            "every date can be day/month or month/day; say which with --dates dmy or --dates mdy",
            "the day stands first in line {dmy} and the month first in line {mdy}; write the dates"
            " as YYYY-MM-DD, or pass --dates dmy or --dates mdy, which rejects the others",
        )

    @property
    def decimal(self) -> Decimal:
        """The decimal sign, from every number of the file.

        Raises:
            ReplayError: no number tells, or some contradict others.
        """
        if self._decimal is not None:
            return self._decimal
        decimal: Decimal = self._decided(
            ((line, _decimal(text)) for line, _, numbers in self._cells() for text in numbers),
            "every number with a point or comma can have thousands or decimals behind it; say which"
            " sign the decimals have with --decimal . or --decimal ,",
            "the decimal sign is a point in line {.} and a comma in line {,}; write one of them, or"
            " pass --decimal . or --decimal , which rejects the others",
        )
        self._decimal = decimal
        return decimal

    def _decided(self, found: Iterable[tuple[int, Way | None]], nowhere: str, both: str) -> Way:
        """The one way in which all that tell are written.

        Args:
            found: (line, what it tells, None if nothing).
            nowhere: what to do where no line tells.
            both: what to do where two lines contradict each other; {way} stands for the first line.

        Raises:
            ReplayError: no line tells, or some contradict others.
        """
        seen: dict[Way, int] = {}
        for line, way in found:
            if way is not None:
                seen.setdefault(way, line)
        if not seen:
            raise ReplayError(f"{self._path}: {nowhere}")
        if len(seen) > 1:
            for way, line in seen.items():
                both = both.replace(f"{{{way}}}", str(line))
            raise ReplayError(f"{self._path}: {both}")
        return next(iter(seen))

    def _date(self, text: str) -> int:
        text = text.strip()
        if text[4:5] == "-":
            # Nearly all dates of all files.
            with contextlib.suppress(ValueError):
                moment = datetime.fromisoformat(text.removesuffix(" UTC"))
                moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
                return round(moment.timestamp() * 1000)
        found = _YEAR_FIRST.match(text) or _NAMED.match(text)
        if found is not None:
            month = found["month"]
            number = _MONTHS.get(month.lower()) if month.isalpha() else int(month)
            if number is None:
                raise LineError(_NO_DATE)
            return _moment(found, number, int(found["day"]))
        found = _YEAR_LAST.match(text)
        if found is None:
            if text.replace(".", "", 1).isdigit():
                raise LineError("time is a number: write it as a date, such as 2010-12-01 08:26")
            raise LineError(_NO_DATE)
        first, other = int(found["first"]), int(found["other"])
        day, month = (first, other) if self.dates == "dmy" else (other, first)
        return _moment(found, month, day)


def _moment(found: re.Match[str], month: int, day: int) -> int:
    year = int(found["year"])
    if len(found["year"]) == 2:  # noqa: PLR2004
        # As POSIX reads two digits.
        year += 1900 if year >= 69 else 2000  # noqa: PLR2004
    hour = int(found["hour"] or 0)
    half = (found["half"] or "").lower()
    if half and not 1 <= hour <= 12:  # noqa: PLR2004
        raise LineError(_NO_DATE)
    if half:
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    part = (found["part"] or "").ljust(6, "0")[:6]
    try:
        moment = datetime(
            year,
            month,
            day,
            hour,
            int(found["minute"] or 0),
            int(found["second"] or 0),
            int(part),
            tzinfo=_zone(found["zone"]),
        )
    except ValueError:
        raise LineError(_NO_DATE) from None
    return round(moment.timestamp() * 1000)


def _zone(text: str | None) -> timezone:
    if text is None or text[0] not in "+-":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))


def _order(text: str) -> DateOrder | None:
    """What one date tells of the order; None if both orders, or neither, are possible."""
    found = _YEAR_LAST.match(text.strip())
    if found is None:
        return None
    first, other = int(found["first"]), int(found["other"])
    if not (1 <= min(first, other) <= 12 < max(first, other) <= 31):  # noqa: PLR2004
        return None
    return "dmy" if first > other else "mdy"


def _decimal(text: str) -> Decimal | None:
    """What one number tells of the decimal sign; None if it tells nothing."""
    text = _BLANKS.sub("", text.strip())
    if not _NUMBER.fullmatch(text):
        return None
    points, commas = text.count("."), text.count(",")
    if points and commas:
        return "." if text.rindex(".") > text.rindex(",") else ","
    if points + commas == 0:
        return None
    sign: Decimal
    other: Decimal
    sign, other = (".", ",") if points else (",", ".")
    if points + commas > 1:
        return other
    whole, _, rest = text.lstrip("+-").partition(sign)
    if len(rest) != _GROUP or len(whole) > _GROUP or whole == "0":
        return sign
    return None


def _grouped(text: str, decimal: Decimal, what: str) -> str:
    """A number with separators as Python writes it."""
    whole, _, rest = text.partition(decimal)
    groups = re.split("[.,]", whole)
    if any(len(group) != _GROUP for group in groups[1:]):
        raise LineError(f"{what} has a separator in the wrong place")
    return f"{''.join(groups)}.{rest or '0'}"
