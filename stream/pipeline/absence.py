"""Fires absence timers when their users' clocks have come to them: the wall's, or a replay's.

No I/O, no Kafka, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.pipeline.decisions import Decided
from stream.pipeline.timers import NEVER, REPLAYS, WALL, Scope

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64
    from stream.config.settings import Settings
    from stream.pipeline.clocks import Clocks, Firing, Segment
    from stream.pipeline.state import UserTable
    from stream.pipeline.timers import Look, Timers


class Absences:
    """What time does to the users of one partition."""

    def __init__(
        self, settings: Settings, table: UserTable, timers: Timers, clocks: Clocks, look: Look
    ) -> None:
        """``look`` evaluates the users whose timers have expired."""
        self._clock, self._age = settings.worker.clock, settings.worker.history_age_ms
        self._table = table
        self._timers = timers
        self._clocks = clocks
        self._look = look
        self._next_replayed: int | None = None  # of the lane of replays, None: to be asked

    def next_due(self) -> int | None:
        """No timer is due before this (ms), None if there is none."""
        earliest = self._timers.earliest
        if self._clocks.used:
            if self._next_replayed is None:
                self._next_replayed = self._timers.earliest_replayed(self._fired())
            earliest = min(earliest, self._next_replayed, self._clocks.next_change())
        return None if earliest >= NEVER else earliest

    def _fired(self) -> int:
        if self._clock == "auto":
            return self._clocks.state.fired
        return max(self._timers.tick_of(self._clocks.reached()), -1)

    def moved(self) -> None:
        """Timers of users of replays were set."""
        self._next_replayed = None

    def advance(self, now_ms: int) -> None:
        """Let time pass on the wall clock; on the event clock events alone do."""
        if self._clock == "event":
            return
        tick = self._timers.tick_of(now_ms)
        since = self._clocks.catch_up(now_ms)
        if self._timers.earliest <= tick:
            self._timers.fire(self._on_wall(now_ms, tick), self._look)
        if not self._clocks.used:
            return
        state = self._clocks.state
        # Before the first time no user of a replay has followed the wall clock.
        after = state.fired or tick
        if since is not None:
            after = min(after, since - 1)
        if self._timers.earliest_replayed(after) <= tick:
            self._timers.fire(self._caught_up(now_ms, after, tick), self._look)
        state.fired = max(state.fired, tick)
        self.moved()

    def after(self, segment: Segment, end: int) -> None:
        """Fire what the clocks of replays have come to before the event at ``end``."""
        for firing in segment.firings(end, self._clocks.ticks()):
            self._timers.fire(self._of_replay(segment, firing), self._look)

    def _on_wall(self, now: int, tick: int) -> Scope:
        """Timers of the users who follow the wall."""

        def mine(rows: NDArray[np.intp]) -> NDArray[np.bool_]:
            return np.asarray(self._table.records["replayed"][rows] == WALL)

        def decided(due: I64) -> Decided:
            return Decided.at(np.full(len(due), now), due, np.zeros(len(due), np.bool_))

        return Scope((WALL,), -1, tick, mine, decided)

    def _caught_up(self, now: int, after: int, tick: int) -> Scope:
        """Timers of the users whose replay has caught up."""

        def mine(rows: NDArray[np.intp]) -> NDArray[np.bool_]:
            records = self._table.records
            caught_up = self._clocks.on_wall(records["last_time"][rows])
            return np.asarray(caught_up & (records["replayed"][rows] == REPLAYS))

        def decided(due: I64) -> Decided:
            # What was due before the history was loaded is of the past.
            return Decided.at(np.full(len(due), now), due, due <= self._clocks.state.loaded)

        return Scope((REPLAYS,), after, tick, mine, decided, to_wall=True)

    def _of_replay(self, segment: Segment, firing: Firing) -> Scope:
        """Timers of the users of a replay, up to where its clock has got."""
        auto = self._clock == "auto"

        def mine(rows: NDArray[np.intp]) -> NDArray[np.bool_]:
            records = self._table.records
            inside = self._clocks.inside(firing.replay, records["last_time"][rows])
            return inside & (records["replayed"][rows] == REPLAYS) if auto else inside

        def decided(due: I64) -> Decided:
            arrived = segment.arrived(firing.replay, due)
            return Decided.at(arrived, due, (arrived - due > self._age) | auto)

        # On the event clock no user follows the wall clock, nor do those who did before it was set.
        lanes = (REPLAYS,) if auto else (WALL, REPLAYS)
        return Scope(lanes, firing.after, firing.until, mine, decided)
