"""The rules of replays once more in plain Python; see ``stream/kernels/replays.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream.kernels.replays import MOST, WITNESSED, ReplayRules


@dataclass
class Replay:
    number: int
    start: int
    clock: int
    top: int
    user: str | None
    events: int = 0
    ahead: int = 0
    ahead_user: str = ""
    witnesses: int = 0
    arrived: int = 0


@dataclass
class Replays:
    rules: ReplayRules
    rows: list[Replay] = field(default_factory=list)
    last: int = 0

    def take(self, time: int, user: str, stamp: int) -> tuple[int, int, bool]:
        """One event: number of its replay, tick of its clock, whether the clock crossed it."""
        gap, bound, grace, tick = self.rules
        fits = [r for r in self.rows if r.start <= time <= r.top]
        fits += [r for r in self.rows if r.start - gap <= time <= r.clock + gap]
        if fits:
            found = fits[0]
        else:
            if len(self.rows) == MOST:
                self.rows.remove(min(self.rows, key=lambda r: r.events))
            self.last += 1
            found = Replay(self.last, time, time, time, user)
            self.rows.append(found)
        before = (found.clock - grace) // tick
        found.start, found.events = min(found.start, time), found.events + 1
        found.arrived = max(found.arrived, stamp)
        if found.user != user:
            found.user = None
        if found.user == user or time <= found.clock + bound:
            found.clock = max(found.clock, time)
            if time < found.ahead - bound or found.clock >= found.ahead:
                found.ahead = 0
        elif found.ahead == 0:
            found.ahead, found.witnesses = time, 1
        else:
            found.ahead = min(found.ahead, time)
            found.witnesses += found.ahead_user != user
        if found.ahead and time > found.clock + bound:
            found.ahead_user = user
            if found.witnesses >= WITNESSED:
                found.clock, found.ahead = found.ahead, 0
                if time <= found.clock + bound:
                    found.clock = max(found.clock, time)
                else:
                    found.ahead, found.witnesses = time, 1
        found.top = max(found.top, time)
        now = (found.clock - grace) // tick
        while other := next((r for r in self.rows if self._touch(found, r)), None):
            self.rows.remove(other)
            found.start = min(found.start, other.start)
            found.clock = min(found.clock, other.clock)
            found.top = max(found.top, other.top)
            found.events += other.events
            found.arrived = max(found.arrived, other.arrived)
            found.user = found.user if found.user == other.user else None
            found.ahead = 0
        return found.number, now * tick, now > before

    def _touch(self, one: Replay, other: Replay) -> bool:
        lower, upper = (one, other) if one.start <= other.start else (other, one)
        return other is not one and lower.clock + self.rules.gap >= upper.start
