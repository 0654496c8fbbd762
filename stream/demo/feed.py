"""The events of the data set, read once, in parts that follow one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.replay.source import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.demo.plan import Plan
    from stream.replay.order import Row
    from stream.replay.report import Report

__all__ = ["Feed"]


class Feed:
    """Rows of the plan's file in order of time; each is given out once."""

    def __init__(self, plan: Plan, report: Report) -> None:
        """Open nothing before the first row is asked for; `report` counts what is read."""
        self._rows = read_rows(
            plan.file,
            plan.format,
            report,
            since=plan.since,
            until=plan.until,
            limit=plan.limit,
            wanted=plan.wanted,
        )
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
