"""What is wrong in an event log, taken out before anything is learnt, and counted.

Events are judged one by one or within their user's own past, never against the log as a whole: what
a point sees must not depend on what came after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.history import PURCHASE, REFUND, Events
from models.log.arrival import NO_CORRECTIONS, Corrections
from models.log.eventlog import EventLog, OrderedLog, in_order
from schemas.events import MAX_PRICE
from schemas.times import EARLIEST, UNITS

AMOUNT_LIMIT: Final = round(MAX_PRICE * 10_000)
"""An amount beyond the highest price of the schema, in 1 / AMOUNT_UNIT, is no real one."""
DAY: Final = 86_400_000


class Cleaning(msgspec.Struct, eq=True):
    """What was found in a log. Counts are of events unless they say otherwise."""

    read: int = 0
    """Valid events of the source."""
    invalid: dict[str, int] = {}
    """Entries of the source that are no valid event, by reason (prices, quantities, times...)."""
    impossible_times: int = 0
    """From before 1990 or from the future; left out."""
    impossible_units: dict[str, int] = {}
    """The unit that impossible times look like -> events; see `schemas.times`."""
    impossible_amounts: int = 0
    """Price times quantity beyond what the schema allows as a price; left out."""
    late: int = 0
    """Left out because serving had sent them to the late topic."""
    duplicates: int = 0
    """Left out because the user had the same one already."""
    reused: int = 0
    """Left out because the user had another one of that id already."""
    corrected: int = 0
    """Purchases and refunds that came after the grace and count as of when they came."""
    bot_users: int = 0
    """Users who behave like programs; they give no points."""
    bot_events: int = 0
    """Their events."""
    purchases: int = 0
    refunds: int = 0
    cancelled: int = 0
    """Orders that refunds took back in full and in time: they decide no label."""

    def count_kinds(self, events: Events, gone: NDArray[np.bool_]) -> None:
        """Count purchases, refunds, and the orders of N events that were given back in time."""
        self.purchases += int((events.type == PURCHASE).sum())
        self.refunds += int((events.type == REFUND).sum())
        self.cancelled += int(gone.sum())

    def add(self, other: Cleaning) -> None:
        """Take in what was found in another part of the log."""
        for name in self.__struct_fields__:
            own, more = getattr(self, name), getattr(other, name)
            if isinstance(own, dict):
                for key, count in more.items():
                    own[key] = own.get(key, 0) + count
            else:
                setattr(self, name, own + more)

    def why_empty(self) -> str:
        """One line on why no event is left: what was refused and what was impossible, counted."""
        faults = {f"invalid, {reason}": count for reason, count in self.invalid.items()}
        unitless = self.impossible_times - sum(self.impossible_units.values())
        faults |= {
            f"event_time looks like {unit}, milliseconds since 1970 are needed": count
            for unit, count in self.impossible_units.items()
        }
        faults["event_time before 1990 or in the future"] = unitless
        faults["impossible amount"] = self.impossible_amounts
        told = "; ".join(f"{count:,} {fault}" for fault, count in faults.items() if count)
        if not told:
            return (
                "the event log is empty; produce events first, or check the topic, --until and the"
                " files"
            )
        return (
            f"no event can be used of {self.read + sum(self.invalid.values()):,} read: {told};"
            " mend the producer or the files"
        )


def possible(log: EventLog, now: int, found: Cleaning) -> EventLog:
    """The events whose time and amount can be; `now` is the time of the run, ms."""
    found.read += len(log)
    time = log.events.time
    in_time = (time >= EARLIEST) & (time <= now + DAY)
    affordable = np.abs(log.events.amount) <= AMOUNT_LIMIT
    found.impossible_times += int((~in_time).sum())
    for unit, count in _units(time[~in_time]):
        found.impossible_units[unit] = found.impossible_units.get(unit, 0) + count
    found.impossible_amounts += int((in_time & ~affordable).sum())
    keep = in_time & affordable
    return log if keep.all() else log.where(keep)


def _units(times: NDArray[np.int64]) -> Iterator[tuple[str, int]]:
    """The units that impossible times look like, with how many do."""
    for unit, low, high in UNITS:
        count = int(((times >= low) & (times < high)).sum())
        if count:
            yield unit, count


def clean(
    log: EventLog,
    grace_ms: int | None,
    now: int,
    found: Cleaning,
    corrections: Corrections = NO_CORRECTIONS,
) -> OrderedLog:
    """Leave out what cannot be, what serving left out and what came twice; sort the rest."""
    log = possible(log, now, found)
    if not len(log):
        return OrderedLog(log, np.empty(0, np.intp), 0, 0)
    ordered = in_order(log, grace_ms, corrections)
    found.late += ordered.late
    found.duplicates += ordered.duplicates
    found.reused += ordered.reused
    found.corrected += ordered.corrected
    return ordered
