"""Lengths of time: integer milliseconds, and what people write for them."""

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field

from stream.config.units import Unit

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

_UNITS = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration(text: str) -> int:
    """Read "250ms", "90s", "15m", "12h", "7d" or plain milliseconds as integer milliseconds.

    Raises:
        ValueError: the text is none of these.
    """
    if text.strip().isdecimal():
        return int(text)
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration: write for example 500ms, 90s, 15m, 12h or 7d")
    return round(Fraction(match[1]) * _UNITS[match[2]])


def duration_text(milliseconds: int) -> str:
    """Write a duration in the largest unit that it is a whole number of: "90s", "7d"."""
    if not milliseconds:
        return "0ms"
    unit = next(unit for unit in reversed(_UNITS) if milliseconds % _UNITS[unit] == 0)
    return f"{milliseconds // _UNITS[unit]}{unit}"


def _milliseconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


DURATION = BeforeValidator(_milliseconds)
Millis = Annotated[int, DURATION, Unit("ms"), Field(ge=0, le=100 * 365 * DAY_MS)]
"""A setting; text such as "15m" or "7d" is read too."""
