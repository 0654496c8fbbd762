"""An event log as columns: who did what and when, as the learning side takes it in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.history import Events, order_of
from models.log.arrival import NO_CORRECTIONS, Corrections, arrived, late_codes


@dataclass(slots=True)
class EventLog:
    """N events of many users, in order of arrival."""

    users: NDArray[np.uint64]
    """xxh3-64 of the user id of each event."""
    events: Events
    came: NDArray[np.uint8] | None = None
    """Marks of how each came, `HISTORY` and `ON_TIME`; None: none."""

    def __len__(self) -> int:
        return len(self.users)

    def take(self, index: NDArray[np.intp]) -> EventLog:
        """The events at `index`, in that order."""
        came = None if self.came is None else self.came[index]
        return EventLog(self.users[index], self.events.take(index), came)

    def where(self, keep: NDArray[np.bool_]) -> EventLog:
        """The events where `keep` is True."""
        return self.take(np.flatnonzero(keep))

    @staticmethod
    def none() -> EventLog:
        """A log without events."""
        return EventLog(np.empty(0, np.uint64), Events.none())

    @staticmethod
    def join(parts: list[EventLog]) -> EventLog:
        """All parts, one after the other."""
        names = Events.__slots__
        columns = (np.concatenate([getattr(p.events, n) for p in parts]) for n in names)
        came = [np.zeros(len(p), np.uint8) if p.came is None else p.came for p in parts]
        users = np.concatenate([p.users for p in parts])
        return EventLog(users, Events(*columns), np.concatenate(came))

    def parts(self) -> Iterator[EventLog]:
        """The whole log as one part."""
        if len(self):
            yield self

    def until(self, time: int) -> EventLog:
        """The events at or before `time`, ms."""
        return self.where(self.events.time <= time)


class LogParts(Protocol):
    """A log that is read in parts of different users."""

    def __len__(self) -> int:
        """Events."""
        ...

    def parts(self) -> Iterator[EventLog]:
        """Each in order of arrival; users ascending from part to part."""
        ...


@dataclass(frozen=True)
class Until:
    """The events of a log at or before a time."""

    log: LogParts
    time: int
    """ms."""

    def __len__(self) -> int:
        return sum(map(len, self.parts()))

    def parts(self) -> Iterator[EventLog]:
        """The parts that have any."""
        for part in self.log.parts():
            early = part.until(self.time)
            if len(early):
                yield early


@dataclass(frozen=True)
class OrderedLog:
    """Events sorted by user, then as in a history (`models.history.sort_key`), each once."""

    log: EventLog
    starts: NDArray[np.intp]
    """Index of each user's first event, ascending."""
    duplicates: int
    """Events left out because the user had one of that id already."""
    late: int
    """Events left out because serving had sent them to the late topic."""
    reused: int = 0
    """Events left out because the user had another one of that id."""
    corrected: int = 0
    """Late purchases and refunds that count as of when they came."""

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Events per user."""
        return np.diff(self.starts, append=len(self.log))

    def at(self, index: NDArray[np.intp]) -> OrderedLog:
        """The events at `index`, ascending."""
        log = self.log.take(index)
        return OrderedLog(log, _starts(log), 0, 0)

    def first_users(self, count: int) -> OrderedLog:
        """The events of the first `count` users."""
        end = self.starts[count] if count < len(self.starts) else len(self.log)
        return self.at(np.arange(end))

    def of_users(self, keeps: Callable[[NDArray[np.uint64]], NDArray[np.bool_]]) -> OrderedLog:
        """The events of the users that `keeps` wants."""
        kept = keeps(self.log.users[self.starts])
        return self if kept.all() else self.at(np.flatnonzero(np.repeat(kept, self.sizes)))


def in_order(
    log: EventLog, grace_ms: int | None, corrections: Corrections = NO_CORRECTIONS
) -> OrderedLog:
    """Sort a log as histories are ordered, leaving out what serving left out.

    Args:
        log: events in order of arrival.
        grace_ms: an event older than its user's latest so far by more than this is late; None
            keeps all, for files whose order says nothing about arrival.
        corrections: late purchases and refunds that count all the same, as of when they came.

    Raises:
        DatasetError: the log is empty.
    """
    if len(log) == 0:
        raise DatasetError("the event log is empty; produce events first")
    late = corrected = 0
    if grace_ms is not None:
        log, late, corrected = _without_late(log, grace_ms, corrections)
    repeated, reused = _repeats(log)
    log = log.where(~repeated)
    events = log.events
    keys = order_of(events.time, events.type, events.id)
    log = log.take(np.lexsort((*keys, log.users)))
    duplicates = int(repeated.sum()) - reused
    return OrderedLog(log, _starts(log), duplicates, late, reused, corrected)


def _starts(log: EventLog) -> NDArray[np.intp]:
    if len(log) == 0:
        return np.empty(0, np.intp)
    return np.flatnonzero(np.append(True, log.users[1:] != log.users[:-1]))


def _without_late(
    log: EventLog, grace_ms: int, corrections: Corrections
) -> tuple[EventLog, int, int]:
    """The log without late events, how many these are, and how many count as of when they came."""
    time, late, corrected = arrived(log.users, log.events, log.came, grace_ms, corrections)
    if corrected:
        order = late_codes(log.events, time)
        log = replace(log, events=replace(log.events, time=time, order=order))
    return log.where(~late), int(late.sum()), corrected


def _repeats(log: EventLog) -> tuple[NDArray[np.bool_], int]:
    """Which events have an id that their user had before, and how many of these are others."""
    order = np.lexsort((log.events.id, log.users))
    users, ids = log.users[order], log.events.id[order]
    again = np.append(False, (users[1:] == users[:-1]) & (ids[1:] == ids[:-1]))
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(log))))
    repeated = np.zeros(len(log), np.bool_)
    repeated[order] = again
    other = np.zeros(len(log), np.bool_)
    for name in set(Events.__slots__) - {"id"}:
        column = getattr(log.events, name)[order]
        other |= again & (column != column[first])
    return repeated, int(other.sum())
