"""Which event times count: the bounds, and what the broker's timestamp says of a wrong clock.

Every reader of the log applies these rules, so that serving, training and outcomes agree on when an
event happened. A rule depends on the record alone: its event time and its Kafka timestamp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from schemas.errors import InvalidEvent, Reason
from schemas.times import LATEST, time_fault
from stream.config.durations import DAY_MS, HOUR_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.history import I64
    from stream.config.settings import Settings

_OFFSET_MS: Final = 900_000
_QUARTERS: Final = tuple(minutes * 60_000 for minutes in (345, 525, 765, 825))
"""Time zones are multiples of half an hour from UTC, but for these: Nepal, Eucla, and Chatham in
winter and in summer."""
_WIDEST_OFFSET_MS: Final = 14 * HOUR_MS
_DELIVERY_MS: Final = 120_000
"""A producer that writes local time as UTC is off by its offset less the time of delivery."""
_FEWEST: Final = 10
_LEAST_SHARE: Final = 0.3
"""Fewer events, or a smaller share of all that are ahead or behind, are chance: of events that are
sent some hours later an eighth lies near a multiple of half an hour."""


@dataclass(slots=True)
class Skews:
    """How event times lie to the broker's timestamps, counted over events."""

    ahead: int = 0
    """Taken at the broker's timestamp, because the event time was too far ahead of it."""
    behind: int = 0
    """Hours behind the broker's timestamp: sent later, or by a wrong clock."""
    offsets: dict[int, int] = field(default_factory=dict)
    """Offset of a time zone in ms -> events whose time is off by it (and by no more
    than a delivery takes): what a producer does that writes local time as UTC."""
    places: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    """Which events are ahead or hours behind."""


@dataclass(frozen=True, slots=True)
class EventTimes:
    """The rules; times in ms."""

    earliest: int
    """An event from before it is refused, and a Kafka timestamp from before it says nothing."""
    ahead: int | None
    """An event further ahead of its Kafka timestamp is taken at that timestamp; None: it is not."""
    future: int | None
    """An event further ahead of its Kafka timestamp is refused; None: it is not."""
    age: int = DAY_MS
    """An event that reached Kafka later than this after it happened is history that was loaded."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rules that workers apply. On the event clock the Kafka timestamp says nothing."""
        worker, replay = settings.worker, settings.worker.clock == "event"
        ahead, future = settings.state.grace_ms, worker.max_future_ms
        if replay:
            return cls(worker.earliest_ms, None, None, worker.history_age_ms)
        return cls(worker.earliest_ms, min(ahead, future), future, worker.history_age_ms)

    def known(self, timestamps: I64) -> NDArray[np.bool_]:
        """Which Kafka timestamps tell when the broker got a record (-1 and 0 do not)."""
        return np.asarray(timestamps >= self.earliest)

    def fault(self, time: int, timestamp: int) -> InvalidEvent | None:
        """Why an event of this time is refused, None if it is not."""
        if (why := time_fault(time, self.earliest)) is not None:
            return InvalidEvent(Reason.OUT_OF_RANGE, "event_time", f"{time} {why}")
        ahead = time - timestamp
        if self.future is None or timestamp < self.earliest or ahead <= self.future:
            return None
        return InvalidEvent(
            Reason.FUTURE,
            "event_time",
            f"{ahead} ms ahead of the record's timestamp, at most {self.future} are accepted:"
            " check the producer's clock and unit (milliseconds)",
        )

    def taken(self, time: int, timestamp: int) -> int:
        """The time at which an event counts."""
        if self.ahead is None or timestamp < self.earliest or time - timestamp <= self.ahead:
            return time
        return timestamp

    def is_loaded(self, time: int, timestamp: int) -> bool:
        """Whether an event is history that was loaded: its Kafka timestamp tells."""
        return timestamp >= self.earliest and timestamp - time > self.age

    def faulty(self, times: I64, timestamps: I64) -> NDArray[np.bool_]:
        """As `fault`, of N events."""
        bad = (times < self.earliest) | (times >= LATEST)
        if self.future is not None:
            bad |= self.known(timestamps) & (times - timestamps > self.future)
        return np.asarray(bad)

    def take(self, times: I64, timestamps: I64) -> tuple[I64, Skews]:
        """As `taken`, of N events without fault, and how their times lie to the timestamps."""
        skews = Skews()
        if self.ahead is None:
            return times, skews
        by = times - timestamps
        odd = (np.abs(by) > self.ahead) & self.known(timestamps)
        if not odd.any():
            return times, skews
        skews.offsets = _offsets(by[odd])
        ahead = odd & (by > 0)
        skews.ahead = int(ahead.sum())
        behind = odd & (by < 0) & (by >= -_WIDEST_OFFSET_MS - _DELIVERY_MS)
        skews.behind = int(behind.sum())
        skews.places = np.flatnonzero(ahead | behind)
        return np.where(ahead, timestamps, times), skews


def _offsets(by: I64) -> dict[int, int]:
    """Offset of a time zone -> how many of some differences, ms, it explains."""
    near = (by + _OFFSET_MS // 2) // _OFFSET_MS * _OFFSET_MS
    zone = (np.abs(by - near) <= _DELIVERY_MS) & (np.abs(near) <= _WIDEST_OFFSET_MS) & (near != 0)
    zone &= (near % (2 * _OFFSET_MS) == 0) | np.isin(near, _QUARTERS)
    offsets, counts = np.unique(near[zone], return_counts=True)
    return dict(zip(offsets.tolist(), counts.tolist(), strict=True))


def _zone(offset: int) -> str:
    """An offset as it is written, such as UTC+8 or UTC+5:45."""
    hours, minutes = divmod(abs(offset) // 60_000, 60)
    return f"UTC{'-' if offset < 0 else '+'}{hours}{f':{minutes:02d}' if minutes else ''}"


def zone_faults(ahead: int, behind: int, offsets: Mapping[int, int]) -> list[str]:
    """Return one line for each time zone that a producer seems to write as UTC; see `Skews`."""
    return [
        f"{count:,} events have times {abs(offset) / HOUR_MS:g} h {way} their arrival: a producer"
        f" writes its local time ({_zone(offset)}) as UTC; event_time is milliseconds"
        " since 1970 in UTC"
        for offset, count in sorted(offsets.items())
        for way, odd in [("ahead of", ahead) if offset > 0 else ("behind", behind)]
        if count >= max(_FEWEST, _LEAST_SHARE * odd)
    ]
