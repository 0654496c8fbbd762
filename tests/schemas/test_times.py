"""Impossible event times tell the unit that they were written in."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from schemas.times import EARLIEST, LATEST, UNITS, time_fault, unit_of

MOMENT = datetime(2024, 2, 29, 8, 30, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        (SECONDS, "seconds"),
        (SECONDS // 3_600, "hours"),
        (SECONDS // 86_400, "days"),
        (SECONDS * 10**6, "microseconds"),
        (SECONDS * 10**9, "nanoseconds"),
        (20240229, "digits of a date"),
        (202402290830, "digits of a date"),
        (20240229083000, "digits of a date"),
        (0, None),
        (-1, None),
        (1_000_000_000_000_000_000_000, None),
    ],
)
def test_units_are_told_from_the_value(time: int, unit: str | None) -> None:
    assert unit_of(time) == unit
    fault = time_fault(time)
    assert fault is not None
    assert (f"looks like {unit};" in fault) == (unit is not None)


def test_ranges_of_units_are_disjoint() -> None:
    ranges = sorted((low, high) for _, low, high in (*UNITS, ("ms", EARLIEST, LATEST)))
    assert all(a[1] <= b[0] for a, b in pairwise(ranges))


def test_milliseconds_of_these_years_are_possible() -> None:
    assert time_fault(EARLIEST) is None
    assert time_fault(LATEST - 1) is None
    assert time_fault(EARLIEST, earliest=EARLIEST + 1) == "before 1990-01-01"
    assert "2099" in str(time_fault(LATEST))
