"""The events of the data set, read once, in parts that follow one another."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from models.encoding import hash64
from schemas.codec import decode_event
from stream.replay.source import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream.demo.plan import Plan
    from stream.replay.order import Row
    from stream.replay.report import Report

__all__ = ["Feed", "in_history_order"]


class Feed:
    """Rows of the plan's file in order of time; each is given out once."""

    def __init__(self, plan: Plan, report: Report) -> None:
        """Open nothing before the first row is asked for; `report` counts what is read."""
        rows = read_rows(
            plan.file,
            plan.format,
            report,
            since=plan.since,
            until=plan.until,
            limit=plan.limit,
        )
        self._rows = in_history_order(rows)
        self._next: Row | None = None
        self._begun = False

    def before(self, time: int) -> Iterator[Row]:
        """Yield the rows before `time` that were not given out yet."""
        if not self._begun:
            self._begun = True
            self._next = next(self._rows, None)
        while self._next is not None and self._next.time < time:
            row, self._next = self._next, next(self._rows, None)
            yield row


def in_history_order(rows: Iterable[Row]) -> Iterator[Row]:
    """Order the rows of the same time by user and hash of the event id, as histories keep them.

    All lines of an invoice have the same time. In any other order most of them would have to be
    inserted before their predecessors, which costs a worker far more than adding them at the end.
    """
    for _, tied in groupby(rows, key=attrgetter("time")):
        group = list(tied)
        if len(group) > 1:
            group.sort(key=lambda row: (row.key or b"", hash64(decode_event(row.value).event_id)))
        yield from group
