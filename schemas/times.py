"""Which event times are possible, and which unit an impossible one looks like.

An event time is an integer of milliseconds since 1970, UTC. A producer that writes another unit is
the usual fault; each unit's values of the years 1990 to 2099 lie in a range of their own, so that a
value tells its unit.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

__all__ = ["EARLIEST", "LATEST", "UNITS", "time_fault", "unit_of"]

EARLIEST: Final = 631_152_000_000
"""1990-01-01, ms: no shop has events from before it; broken clocks and wrong units say 1970."""
LATEST: Final = 4_102_444_800_000
"""2100-01-01, ms: no event that is written today is from then or later."""
UNITS: Final[tuple[tuple[str, int, int], ...]] = (
    ("seconds", EARLIEST // 1_000, LATEST // 1_000),
    ("hours", EARLIEST // 3_600_000, LATEST // 3_600_000),
    ("days", EARLIEST // 86_400_000, LATEST // 86_400_000),
    ("microseconds", EARLIEST * 1_000, LATEST * 1_000),
    ("nanoseconds", EARLIEST * 1_000_000, LATEST * 1_000_000),
    ("digits of a date", 19900101, 21000101),
    ("digits of a date", 199001010000, 210001010000),
    ("digits of a date", 19900101000000, 21000101000000),
)
"""(unit, least value, first value no longer possible) of the years 1990 to 2099; disjoint."""


def unit_of(time: int) -> str | None:
    """The unit that an impossible time looks like; None if it looks like none."""
    return next((name for name, low, high in UNITS if low <= time < high), None)


def time_fault(time: int, earliest: int = EARLIEST) -> str | None:
    """Why a time cannot be an event's, with the remedy; None if it can.

    The texts are few, so that faults can be counted by them.
    """
    if earliest <= time < LATEST:
        return None
    unit = unit_of(time)
    if unit is not None:
        return f"looks like {unit}; milliseconds since 1970 are needed"
    if time >= LATEST:
        return "after the year 2099; milliseconds since 1970 are needed"
    return f"before {datetime.fromtimestamp(earliest / 1_000, UTC):%Y-%m-%d}"
