"""Rates of one currency by day, each from the time on at which it was known.

An event's rate is the latest one at or before its day of those that were known when the event was
taken in. So a rate that comes after an event changes nothing about that event, and the same events
and rates give the same amounts in whichever portions they are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from models.history import I64

__all__ = ["Entry", "RateTable"]


class Entry(NamedTuple):
    """What a unit of the currency is worth from a day on."""

    day: int
    """Days since 1970."""
    since: int
    """Broker's time from which on events are converted by it, ms; 0: all events are."""
    rate: float
    """Units of the shop's currency; NaN: from `since` on the day has no rate."""


class RateTable:
    """Looks rates up; never changes."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """Of entries with the same day and `since` the last one counts."""
        kept = {(entry.day, entry.since): entry for entry in entries}
        rows = [kept[key] for key in sorted(kept)]
        self._day = np.array([row.day for row in rows], np.int64)
        self._since = np.array([row.since for row in rows], np.int64)
        self._rate = np.array([*(row.rate for row in rows), np.nan], np.float64)
        """The last one stands for "none", which is place -1."""
        # Of an entry that was not known yet the next candidate is the nearest one before it that
        # was known earlier: all between were known later still.
        self._earlier = np.full(len(rows), -1, np.int64)
        waiting: list[int] = []
        for place, row in enumerate(rows):
            while waiting and rows[waiting[-1]].since >= row.since:
                waiting.pop()
            self._earlier[place] = waiting[-1] if waiting else -1
            waiting.append(place)
        self._before = np.searchsorted(self._day, self._day) - 1
        """Entry -> the last one of an earlier day."""

    def __len__(self) -> int:
        return len(self._day)

    def rates(self, days: I64, taken: I64 | None) -> NDArray[np.float64]:
        """Rates [N], NaN where there is none.

        Args:
            days: [N] days of events since 1970.
            taken: [N] broker's times of the events, ms; None: after all rates were known.
        """
        place = np.searchsorted(self._day, days, side="right") - 1
        left = np.flatnonzero(place >= 0)
        while len(left):
            at = place[left]
            unknown = np.zeros(len(left), np.bool_)
            if taken is not None:
                unknown = self._since[at] > taken[left]
            withdrawn = ~unknown & np.isnan(self._rate[at])
            place[left] = np.where(
                unknown, self._earlier[at], np.where(withdrawn, self._before[at], at)
            )
            left = left[(unknown | withdrawn) & (place[left] >= 0)]
        return self._rate[place]
