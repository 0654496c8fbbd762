"""A user's latest categories and items: what was there at a moment, and what came next.

What is found does not depend on when it is asked for: each event knows how far its partition was
when it came, so that what came after a truth was known is passed over later too.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from models.encoding import hash64
from models.history import sort_key
from stream.pipeline.ranking import FIELDS

if TYPE_CHECKING:
    from schemas.events import Event

__all__ = ["MAX_EVENTS", "Found", "RankingHistory", "Seen"]

MAX_EVENTS: Final = 512
"""Events remembered per user, at most: so many may be read ahead of the user's predictions."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An event with a category or an item."""

    time: int
    """Of the event, ms."""
    place: tuple[int, bool, int]
    """Its place in the user's history (`models.history.sort_key`)."""
    names: dict[str, str]
    """By what is ranked; only those it has."""
    watermark: int
    """Greatest event time of the partition before this event came, ms."""

    @property
    def id(self) -> int:
        """Hash of its id."""
        return self.place[-1]


class Found(NamedTuple):
    """What lies around a moment, as far as it has come."""

    first: Seen | None
    """The first event after it."""
    last: Seen | None
    """The last one up to it."""


@dataclass(slots=True)
class _Named:
    """Events with one kind of name, in order of arrival."""

    seen: list[Seen] = field(default_factory=list)
    newest: list[Seen] = field(default_factory=list)
    """Per event the newest up to it: their times ascend."""


_TIME: Final = attrgetter("time")
_ORDER: Final = attrgetter("place")


class RankingHistory:
    """The last events of one user, in order of arrival."""

    def __init__(self) -> None:
        """Begin without events."""
        self.newest = 0
        """Time of the newest event, whether it has a name or not, ms."""
        self._events: dict[int, Seen] = {}
        self._named: dict[str, _Named] = {what: _Named() for what in FIELDS}
        self._forgotten: dict[str, Seen] = {}
        """The newest one that `_events` holds no more, by what is ranked."""

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: Event, watermark: int, grace_ms: int) -> Seen | None:
        """Take in an event; returns it if that changes anything.

        Args:
            event: a duplicate, one that is late and one without names change nothing.
            watermark: greatest event time of its partition before it, ms.
            grace_ms: older than the newest event by more than this is late.
        """
        time = event.event_time
        if time < self.newest - grace_ms:
            return None
        self.newest = max(self.newest, time)
        names = {
            what: sys.intern(name)
            for what in FIELDS
            if (name := getattr(event, f"{what}_id")) is not None
        }
        place = sort_key(time, event.code, hash64(event.event_id))
        seen = Seen(time, place, names, watermark)
        if not names or seen.id in self._events:
            return None
        self._events[seen.id] = seen
        for what in names:
            named = self._named[what]
            before = named.newest[-1] if named.newest else self._forgotten.get(what, seen)
            named.seen.append(seen)
            named.newest.append(max(before, seen, key=_ORDER))
        return seen

    def find(self, what: str, time: int, grace_ms: int) -> Found | None:
        """What was there at a moment and what came next; None if that is forgotten.

        Once the partition is further ahead of what came next than the grace, it stays as it is.

        Args:
            what: "category" or "item"; only events that have one count.
            time: the moment, ms; events of it are not after it.
            grace_ms: how long one that is out of order may still come first, ms.
        """
        last = self._forgotten.get(what)
        if last is not None and time < last.time:
            return None
        named = self._named[what]
        # Before this place nothing came after the moment.
        place = bisect_right(named.newest, time, key=_TIME)
        if place:
            last = named.newest[place - 1]
        first = None
        for seen in islice(named.seen, place, None):
            if first is not None and seen.watermark > first.time + grace_ms:
                break
            if seen.time > time:
                if first is None or seen.place < first.place:
                    first = seen
            elif last is None or seen.place > last.place:
                last = seen
        return Found(first, last)

    def forget(self) -> int:
        """Forget the event that came first, but for what was last; returns its time, ms."""
        seen = self._events.pop(next(iter(self._events)))
        for what in seen.names:
            named = self._named[what]
            self._forgotten[what] = named.newest.pop(0)
            del named.seen[0]
        return seen.time

    def forget_before(self, floor: int) -> None:
        """Forget events that came first as long as they are of before a time, ms."""
        while self._events and next(iter(self._events.values())).time < floor:
            self.forget()
