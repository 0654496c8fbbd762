"""What was broken, how often, and what became of it: one line per row of the fault table.

    ROW, NAME = 1, "worker SIGKILL at each stage boundary"

    def test_killed(fault_row, scale):
        with fault_row.attempt(times=scale(1, 20)) as attempt:
            ...
            attempt.lost, attempt.duplicated = ...
            attempt.recovered_in(seconds)

Whatever raises inside an attempt was not survived; what was counted until then is kept.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass
class FaultLine:
    """A row of the report."""

    row: int
    name: str
    tried: int = 0
    survived: int = 0
    lost: int = 0
    """What the oracle has and a read_committed subscriber or the state has not."""
    duplicated: int = 0
    """What a read_committed subscriber sees more often than once, or should not see at all."""
    recover_seconds: float | None = None
    """The longest time until work went on; None where nothing stopped."""
    figures: list[str] = field(default_factory=list)
    """What else was measured, in words; left out where nothing was."""


@dataclass
class Attempt:
    """One or more tries of a fault that are judged together."""

    times: int
    lost: int = 0
    duplicated: int = 0
    recover_seconds: float | None = None
    figures: list[str] = field(default_factory=list)

    def note(self, figure: str) -> None:
        """Keep what was measured for the report."""
        self.figures.append(figure)

    def recovered_in(self, seconds: float) -> None:
        """Keep the longest time."""
        self.recover_seconds = round(max(seconds, self.recover_seconds or 0.0), 2)

    @contextlib.contextmanager
    def recovering(self) -> Iterator[None]:
        """Time what is inside: until work goes on."""
        began = time.monotonic()
        yield
        self.recovered_in(time.monotonic() - began)


class FaultRow:
    """A row of the fault table, for the tests of its module."""

    def __init__(self, line: FaultLine) -> None:
        self._line = line

    @contextlib.contextmanager
    def attempt(self, times: int = 1) -> Iterator[Attempt]:
        """Break something `times` times inside, and judge what came of it."""
        attempt = Attempt(times)
        line = self._line
        line.tried += times
        try:
            yield attempt
            assert (attempt.lost, attempt.duplicated) == (0, 0), "lost, duplicated"
            line.survived += times
        finally:
            line.lost += attempt.lost
            line.duplicated += attempt.duplicated
            line.figures += attempt.figures
            if attempt.recover_seconds is not None:
                line.recover_seconds = max(line.recover_seconds or 0.0, attempt.recover_seconds)


@dataclass
class Ledger:
    """All rows of a session."""

    lines: dict[int, FaultLine] = field(default_factory=dict)

    def row(self, number: int, name: str) -> FaultRow:
        """The row of that number, made when first asked for."""
        return FaultRow(self.lines.setdefault(number, FaultLine(number, name)))

    def as_list(self) -> list[dict[str, object]]:
        """The rows that were tried, in order of their number."""
        rows = [asdict(line) for _, line in sorted(self.lines.items()) if line.tried]
        return [{k: v for k, v in row.items() if k != "figures" or v} for row in rows]

    def carried(self) -> list[dict[str, object]]:
        """All of it, for another process."""
        return [asdict(line) for line in self.lines.values()]

    def add(self, carried: list[dict[str, object]]) -> None:
        """Add what another process carried here: tests of a row may run in several."""
        for values in carried:
            line = FaultLine(**values)  # type: ignore[arg-type]
            mine = self.lines.setdefault(line.row, FaultLine(line.row, line.name))
            mine.tried += line.tried
            mine.survived += line.survived
            mine.lost += line.lost
            mine.duplicated += line.duplicated
            mine.figures += line.figures
            seconds = [s for s in (mine.recover_seconds, line.recover_seconds) if s is not None]
            mine.recover_seconds = max(seconds, default=None)

    def write(self, path: Path) -> None:
        """Write the rows as JSON."""
        path.write_text(json.dumps(self.as_list(), indent=1) + "\n", encoding="utf-8")

    def table(self) -> list[str]:
        """The rows as text."""
        head = f"{'row':>3}  {'tried':>5} {'survived':>8} {'lost':>4} {'duplicated':>10}"
        lines = [f"{head} {'recover s':>9}  fault"]
        for line in (line for _, line in sorted(self.lines.items()) if line.tried):
            seconds = "" if line.recover_seconds is None else f"{line.recover_seconds:.1f}"
            lines.append(
                f"{line.row:>3}  {line.tried:>5} {line.survived:>8} {line.lost:>4}"
                f" {line.duplicated:>10} {seconds:>9}  {line.name}"
            )
            lines += [f"     {figure}" for figure in line.figures]
        return lines


@dataclass(frozen=True)
class Scale:
    """How hard to try: `make faults` tries everything at full strength, `make test` a part."""

    full: bool
    seed: int

    def __call__(self, short: T, full: T) -> T:
        """Choose by strength."""
        return full if self.full else short

    def rng(self, name: str) -> random.Random:
        """Randomness that the seed and a name determine."""
        return random.Random(f"{self.seed}:{name}")
