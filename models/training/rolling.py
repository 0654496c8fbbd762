"""A log that goes on: what was read is kept as histories and points, and only news is worked on.

Kept are the users' histories at the last cut, the points drawn so far with what followed them, and
the events after the cut, which may still be joined by late ones or taken back. When events come,
the cut moves on: they enter the histories, points of the new stretch are drawn (in place of some
old ones, `models.data.points`), and what old points waited for is filled in. Memory is bounded by
the number of users learnt from, however long the log becomes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.data.dataset import DatasetConfig, Examples, Index, draw_points, label_points
from models.data.leaks import check_leaks
from models.data.points import U64, Points, draw, follow, join, mix, uniform
from models.data.split import TRAIN, TimeSplit
from models.data.timers import AT_TIMERS
from models.errors import CheckpointError
from models.fitting.sealed import read_sealed, write_sealed
from models.history import Events, Records, history_dtype, snapshot
from models.log.automation import automated
from models.log.cleaning import Cleaning, clean
from models.log.eventlog import EventLog, LogParts
from models.log.names import Row
from models.log.orders import deciding
from models.memory import give_back
from models.targets import Target
from models.training.gather import (
    Gathered,
    Span,
    UserSample,
    fitting,
    gathered_of,
    span_of,
    with_timers,
)

MAGIC: Final = b"intentstream training state 7\n"
CHECKED_USERS: Final = 200
_REPLAY_SALT: Final = 0x72


class _Numbers(msgspec.Struct):
    """What is kept besides arrays."""

    setup: str
    cut: int
    halvings: int
    first: int
    last: int
    events: int
    learned_until: int
    version: str
    cleaning: Cleaning
    position: dict[str, int]
    names: dict[str, list[Row]]


@dataclass
class Rolling:
    """The state of training between its rounds."""

    targets: tuple[Target, ...]
    config: DatasetConfig
    drop_late: bool
    """Leave out events that serving sent to the late topic."""
    cut: int = 0
    """What happened up to here has entered the histories, ms."""
    learned_until: int = 0
    """Moment of the latest point that the published model has learnt from, ms; 0: none."""
    version: str = ""
    """The model that was published last."""
    position: dict[str, int] = field(default_factory=dict)
    """Where the source goes on, in words of its own."""
    names: dict[str, list[Row]] = field(default_factory=dict)
    """What is ranked -> the names that the source has come upon."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    span: Span = field(default_factory=Span)
    events: int = 0
    """Events taken in."""
    _sample: UserSample = field(init=False)
    _users: U64 = field(init=False)
    _records: Records = field(init=False)
    _points: Points | None = None
    _tail: list[EventLog] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin without users."""
        self._sample = UserSample(self.config.max_users)
        self._users = np.empty(0, np.uint64)
        self._records = np.zeros(0, history_dtype(self.config.history_length))

    @property
    def begun(self) -> bool:
        """Whether a log was taken in."""
        return self.cut > 0

    def begin(self, log: LogParts, now: int, invalid: dict[str, int] | None = None) -> None:
        """Take in a whole log, part by part, in place of all before.

        `invalid` counts what the source refused, by reason.

        Raises:
            DatasetError: it is empty, too short, or an input peeks into the future.
        """
        self.span = span_of(log, now, invalid)
        self.cleaning = Cleaning(invalid={} if invalid is None else invalid)
        self.events = self.learned_until = 0
        self._sample.halvings = 0
        split = fitting(self.span, self.targets, self.config)[0]
        config = with_timers(self.config, split, self.targets)
        self.cut = split.edges[3] - self.config.settle_ms
        points: list[Points] = []
        users: list[U64] = []
        records: list[Records] = []
        self._tail = []
        grace = self.config.grace_ms if self.drop_late else None
        for part in log.parts():
            ordered = clean(part, grace, now, self.cleaning, self.config.corrections)
            if not len(ordered.log):
                continue
            if not self.events:
                check_leaks(ordered.first_users(CHECKED_USERS), self.config.sessions)
            self.events += len(ordered.log)
            ordered = ordered.of_users(self._sample.keeps)
            self._tail.append(ordered.log.where(ordered.log.events.time > self.cut))
            kept_here: list[tuple[U64, Records]] = []
            points.append(
                draw_points(
                    ordered, self.targets, self.cut, config, self.cleaning, kept_here.append
                )
            )
            for who, histories in kept_here:
                known = histories["n"] > 0
                users.append(who[known])
                records.append(histories[known])
            if self._sample.shrink_to_fit(np.concatenate(users)):
                kept = [self._sample.keeps(who) for who in users]
                records = [r[k] for r, k in zip(records, kept, strict=True)]
                users = [u[k] for u, k in zip(users, kept, strict=True)]
                points = [p.take(np.flatnonzero(self._sample.keeps(p.user))) for p in points]
                self._tail = [t.where(self._sample.keeps(t.users)) for t in self._tail]
            give_back()
        self._points = join(points)
        self._users, self._records = np.concatenate(users), np.concatenate(records)

    def advance(self, news: EventLog, now: int) -> None:
        """Take in events that came since, in order of arrival.

        Those from before the cut are too late for the histories; a whole fit takes them in.
        """
        found = self.cleaning
        known = np.concatenate([part.events.id for part in self._tail])
        waiting = EventLog.join([*self._tail, news])
        read = found.read + len(news)
        grace = self.config.grace_ms if self.drop_late else None
        ordered = clean(waiting, grace, now, found, self.config.corrections)
        found.read = read
        fresh = ordered.log.events.time > self.cut
        found.late += int((~fresh).sum())
        new = fresh & ~np.isin(ordered.log.events.id, known)
        self.span.add(ordered.log.events.time[new])
        self.events += int(new.sum())
        kept = fresh & self._sample.keeps(ordered.log.users)
        log = ordered.log.where(kept)
        split = fitting(self.span, self.targets, self.config)[0]
        until = max(split.edges[3] - self.config.settle_ms, self.cut)
        rows = self._rows(log.users)
        rules, window = self.config.sessions, self.config.cancel_window_ms
        decides = deciding(self._records, rows, log.events, rules, window)
        ready = np.flatnonzero(log.events.time <= until)
        self._tail = [log.where(log.events.time > until)]
        stretch = (rows[ready], log.events.take(ready), decides.take(ready))
        found.count_kinds(stretch[1], stretch[2].gone)
        old = self._whole()
        follow(old, np.searchsorted(self._users, old.user), *stretch, self.targets, rules)
        drawn = draw(
            self._records,
            self._users,
            *stretch,
            self.cut,
            until,
            self.targets,
            self.config.drawing,
        )
        self.cut = until
        self._points = self._settle(join([old, drawn]), split)
        if self._sample.shrink_to_fit(self._users):
            self._only(self._sample.keeps(self._users))

    def gathered(self) -> Gathered:
        """The examples as they are now.

        Raises:
            DatasetError: each target has too few labels or one class only in a slice.
        """
        split = fitting(self.span, self.targets, self.config)[0]
        points, timers = self._whole(), None
        examples = label_points(points, self.targets, split)
        if self.config.timers is not None:
            timers = label_points(points, self.targets, split, timers=True, open_too=True)
        whole = gathered_of(
            examples,
            self.targets,
            self.span,
            self.config,
            self.cleaning,
            self.events,
            len(self._users),
            timers,
        )
        return replace(whole, sampled=self._sample.share)

    def open_examples(self) -> Examples:
        """All points, with what is known of their labels so far; complete ones are in `labels`."""
        split = fitting(self.span, self.targets, self.config)[0]
        examples = label_points(self._whole(), self.targets, split, open_too=True)
        return replace(examples, labels=examples.settled)

    def lesson(self, gathered: Gathered, replay: float) -> tuple[Index, Index]:
        """(points to learn from that the published model has not seen, points to remember by).

        Args:
            gathered: the examples as they are now.
            replay: old points per new one.
        """
        examples = gathered.examples
        points = examples.of_slice(TRAIN)
        new = examples.now[points] > self.learned_until
        fresh, old = points[new], points[~new]
        bits = mix(examples.user[old] ^ mix(examples.now[old].astype(np.uint64)), self.cut)
        share = replay * len(fresh) / max(len(old), 1)
        return fresh, old[uniform(mix(bits, _REPLAY_SALT)) < share]

    def learned(self, gathered: Gathered, version: str) -> None:
        """Note what the model `version`, just published, has learnt from."""
        examples = gathered.examples
        self.learned_until = int(examples.now[examples.of_slice(TRAIN)].max())
        self.version = version

    def forget(self, users: U64) -> None:
        """Remove users with all that is known of them."""
        self._only(~np.isin(self._users, users))
        self._tail = [t.where(~np.isin(t.users, users)) for t in self._tail]

    def save(self, path: Path) -> None:
        """Write the state, so that another process can go on from it.

        Raises:
            CheckpointError: it cannot be written.
        """
        numbers = _Numbers(
            self._setup(),
            self.cut,
            self._sample.halvings,
            self.span.first,
            self.span.last,
            self.events,
            self.learned_until,
            self.version,
            self.cleaning,
            self.position,
            self.names,
        )
        tail, points = EventLog.join(self._tail), self._whole()
        arrays: dict[str, NDArray[Any]] = {
            "numbers": np.frombuffer(msgspec.msgpack.encode(numbers), np.uint8),
            "users": self._users,
            "records": self._records,
            "minutes": self.span.minutes,
            "counts": self.span.counts,
            "tail_users": tail.users,
        }
        arrays |= {f"tail/{name}": getattr(tail.events, name) for name in Events.__slots__}
        arrays |= {f"points/{name}": getattr(points, name) for name in Points.__slots__}
        write_sealed(path, MAGIC, arrays)

    def load(self, path: Path) -> bool:
        """Go on from a file; False where there is none.

        Raises:
            CheckpointError: it is damaged, or was written with other settings.
        """
        remedy = f"remove {path} to begin anew with the whole log"
        arrays = read_sealed(path, MAGIC, remedy)
        if arrays is None:
            return False
        numbers = msgspec.msgpack.decode(arrays["numbers"].tobytes(), type=_Numbers)
        if numbers.setup != self._setup():
            raise CheckpointError(
                f"{path} was kept with other horizons or settings of the data; {remedy}"
            )
        kept = ("cut", "events", "learned_until", "version", "cleaning", "position", "names")
        for name in kept:
            setattr(self, name, getattr(numbers, name))
        self._sample.halvings = numbers.halvings
        self.span = Span(arrays["minutes"], arrays["counts"], numbers.first, numbers.last)
        self._users, self._records = arrays["users"], arrays["records"]
        tail = Events(*(arrays[f"tail/{name}"] for name in Events.__slots__))
        self._tail = [EventLog(arrays["tail_users"], tail)]
        self._points = Points(**{name: arrays[f"points/{name}"] for name in Points.__slots__})
        return True

    def _setup(self) -> str:
        return repr((self.targets, replace(self.config, max_users=0, min_points=0), self.drop_late))

    def _whole(self) -> Points:
        if self._points is None:
            raise CheckpointError("nothing was taken in yet: begin with a whole log")
        return self._points

    def _rows(self, users: U64) -> Index:
        """The record of each event's user; new users get empty ones."""
        new = np.setdiff1d(users, self._users)
        if len(new):
            both = np.concatenate([self._users, new])
            order = np.argsort(both)
            empty = np.zeros(len(new), self._records.dtype)
            self._users = both[order]
            self._records = np.concatenate([self._records, empty])[order]
        return np.searchsorted(self._users, users)

    def _only(self, kept: NDArray[np.bool_]) -> None:
        self._users, self._records = self._users[kept], self._records[kept]
        points = self._whole()
        self._points = points.take(np.flatnonzero(np.isin(points.user, self._users)))

    def _settle(self, points: Points, split: TimeSplit) -> Points:
        """Leave out points whose place a later one has taken, old timers, and those of programs."""
        timers = with_timers(self.config, split, self.targets).timers
        old = (points.slot < AT_TIMERS) & (points.now <= (0 if timers is None else timers.since))
        points = points.take(np.flatnonzero(~old)) if old.any() else points
        newest_first = np.lexsort((-points.now, points.slot, points.user))
        user, slot = points.user[newest_first], points.slot[newest_first]
        first = np.append(True, (user[1:] != user[:-1]) | (slot[1:] != slot[:-1]))
        places = newest_first[first]
        # Silences have negative places; of events each user keeps the smallest hashes.
        at_events = places[points.slot[places] >= 0]
        user = points.user[at_events]
        starts = np.flatnonzero(np.append(True, user[1:] != user[:-1])[: len(user)])
        rank = np.arange(len(user)) - np.repeat(starts, np.diff(starts, append=len(user)))
        drawn = rank < self.config.drawing.most_at_events(self.targets)
        at_events, rank = at_events[drawn], rank[drawn]
        beyond = at_events[rank >= self.config.event_points]
        only = np.array([target.at_events for target in self.targets])
        points.eligible[beyond] &= only
        kept = np.sort(np.concatenate([places[points.slot[places] < 0], at_events]))
        bots = automated(snapshot(self._records), self.config.bot_session_events)
        kept = kept[~np.isin(points.user[kept], self._users[bots])]
        return points.take(kept)
