"""What follows moments of many users: their events as sorted numbers, searched at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.history import I64, Events
from models.log.orders import Deciding
from models.targets import AMOUNT, ANY, Target

Bools = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class EventKeys:
    """Events as numbers in the order of row and time, so that one search serves all users.

    A row is a user's record; N events in ascending order of row and time, Q moments.
    """

    keys: I64
    times: I64
    rows: Index
    low: int
    span: int

    @classmethod
    def of(
        cls, rows: Index, times: I64, since: int | None, until: int | None, records: int
    ) -> EventKeys:
        """Make the keys.

        Args:
            rows: [N] record of each event.
            times: [N] ms.
            since: earliest moment that is asked for, ms; None: that of the first event.
            until: latest one, likewise.
            records: how many records there are.

        Raises:
            OverflowError: users times milliseconds exceed 64 bits.
        """
        low = int(times.min(initial=since if since is not None else np.iinfo(np.int64).max))
        high = int(times.max(initial=until if until is not None else 0))
        low = min(low, high)
        span = high - low + 2
        if records > np.iinfo(np.int64).max // (span + 1):
            raise OverflowError(f"{records} users over {span} ms do not fit into one search")
        return cls(rows * span + (times - low), times, rows, low, span)

    def _key(self, rows: Index, moments: I64) -> I64:
        return rows * self.span + np.clip(moments - self.low, -1, self.span - 2)

    def last_at(self, rows: Index, moments: I64) -> Index:
        """The row's last event at or before each moment, -1 if there is none."""
        at = np.searchsorted(self.keys, self._key(rows, moments), side="right") - 1
        inside = np.maximum(at, 0)
        found = (at >= 0) & (len(self.rows) > 0)
        if len(self.rows):
            found &= self.rows[inside] == rows
        return np.where(found, inside, -1)

    def _next(self, keys: I64, of: Index, rows: Index, moments: I64) -> tuple[Index, Bools]:
        """Which of some events, not none, is each row's first after a moment, and if there is one.

        Args:
            keys: of the events, ascending.
            of: the row of each.
            rows: [Q] whose.
            moments: [Q] after which, ms.
        """
        at = np.searchsorted(keys, self._key(rows, moments), side="right")
        inside = np.minimum(at, len(keys) - 1)
        return inside, (at < len(keys)) & (of[inside] == rows)

    def first_after(self, rows: Index, moments: I64, among: Bools) -> I64:
        """Time of the row's first event of `among` after each moment, 0 if there is none."""
        keys, times, of = self.keys[among], self.times[among], self.rows[among]
        if not len(keys):
            return np.zeros(len(rows), np.int64)
        at, found = self._next(keys, of, rows, moments)
        return np.where(found, times[at], 0)

    def deciding(
        self,
        rows: Index,
        moments: I64,
        events: Events,
        decides: Deciding,
        targets: tuple[Target, ...],
    ) -> I64:
        """Time [Q,K] of the row's first event after each moment that decides each target, or 0."""
        return np.stack(
            [
                self.first_after(rows, moments, _deciding(target, events, decides))
                for target in targets
            ],
            axis=1,
        )

    def session_ends(self, rows: Index, ends: I64, gap: int) -> I64:
        """Last event time [Q] of sessions that had events until `ends` [Q] and may go on.

        A session goes on with the row's next event if that comes within `gap` ms, and so on. Works
        on the events stretch by stretch: the result of one stretch is `ends` of the next.
        """
        if not len(self.keys):
            return ends
        at, goes_on = self._next(self.keys, self.rows, rows, ends)
        goes_on &= self.times[at] - ends <= gap
        ended = (np.diff(self.rows) != 0) | (np.diff(self.times) > gap)
        last = np.append(np.flatnonzero(ended), len(self.keys) - 1)
        run_end = self.times[last][np.searchsorted(last, at)]
        return np.where(goes_on, run_end, ends)

    def spent(
        self,
        rows: Index,
        moments: I64,
        events: Events,
        decides: Deciding,
        targets: tuple[Target, ...],
    ) -> I64:
        """Amounts [Q,S] of the row's deciding events within the horizon after each moment."""
        amounts = [target for target in targets if target.kind == AMOUNT]
        out = np.zeros((len(rows), len(amounts)), np.int64)
        for place, target in enumerate(amounts):
            among = _deciding(target, events, decides)
            keys, total = self.keys[among], np.append(0, np.cumsum(decides.amount[among]))
            ends = (self._key(rows, moments + wait) for wait in (0, target.horizon_ms))
            first, end = (np.searchsorted(keys, key, side="right") for key in ends)
            out[:, place] = total[end] - total[first]
        return out


def _deciding(target: Target, events: Events, decides: Deciding) -> Bools:
    """Which of N events decide a target."""
    if target.event_type == ANY:
        return np.ones(len(events), np.bool_)
    return np.asarray(decides.counts & (events.type == target.event_type))
