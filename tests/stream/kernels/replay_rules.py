"""The rules of replays once more in plain Python; see ``stream/kernels/replays.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream.kernels.replays import LASTING, MOST, WITNESSED, ReplayRules


@dataclass
class Replay:
    number: int
    start: int
    clock: int
    top: int
    users: set[str]
    """Up to three of them."""
    events: int = 0
    ahead: int = 0
    ahead_user: str = ""
    witnesses: int = 0
    seen: set[str] = field(default_factory=set)
    run: set[str] = field(default_factory=set)
    arrived: int = 0


@dataclass
class Replays:
    rules: ReplayRules
    rows: list[Replay] = field(default_factory=list)
    last: int = 0

    def take(self, time: int, user: str, stamp: int) -> tuple[int, int, bool, bool]:
        """One event: its replay's number and tick, whether that was crossed; if it is on time."""
        gap, bound, grace, tick = self.rules
        fits = [r for r in self.rows if r.start <= time <= r.top]
        fits += [r for r in self.rows if r.start - gap <= time <= r.clock + gap]
        if fits:
            found = fits[0]
        else:
            if len(self.rows) == MOST:
                self.rows.remove(min(self.rows, key=lambda r: r.events))
            self.last += 1
            found = Replay(self.last, time, time, time, {user})
            self.rows.append(found)
        before = (found.clock - grace) // tick
        found.start, found.events = min(found.start, time), found.events + 1
        found.arrived = max(found.arrived, stamp)
        if len(found.users) < 3:
            found.users.add(user)
        if found.users == {user} or time <= found.clock + bound:
            found.clock = max(found.clock, time)
            if time < found.ahead - bound or found.clock >= found.ahead:
                found.ahead = 0
        elif found.ahead == 0:
            found.ahead, found.witnesses, found.seen = time, 1, {user}
        else:
            found.ahead = min(found.ahead, time)
            found.witnesses += found.ahead_user != user
            found.seen.add(user)
        if found.ahead and time > found.clock + bound:
            found.ahead_user = user
            different = min(len(found.users), WITNESSED)
            enough = len(found.seen) >= different or found.witnesses >= LASTING
            if found.witnesses >= WITNESSED and enough:
                found.clock, found.ahead = found.ahead, 0
                if time <= found.clock + bound:
                    found.clock = max(found.clock, time)
                else:
                    found.ahead, found.witnesses, found.seen = time, 1, {user}
        on_time = False
        if time > found.clock + bound:
            found.run = set()
        elif time >= found.clock - grace:
            found.run.add(user)
            on_time = len(found.run) >= WITNESSED
        found.top = max(found.top, time)
        now = (found.clock - grace) // tick
        while other := next((r for r in self.rows if self._touch(found, r)), None):
            self.rows.remove(other)
            found.start = min(found.start, other.start)
            found.clock = min(found.clock, other.clock)
            found.top = max(found.top, other.top)
            found.events += other.events
            found.arrived = max(found.arrived, other.arrived)
            found.users |= other.users
            found.ahead, found.run = 0, set()
        return found.number, now * tick, now > before, on_time

    def _touch(self, one: Replay, other: Replay) -> bool:
        lower, upper = (one, other) if one.start <= other.start else (other, one)
        return other is not one and lower.clock + self.rules.gap >= upper.start
