"""Memory and time of `intentstream evaluate recsys2025` on generated files of several sizes.

    python -m benchmarks.recsys2025 --events 1000000 --events 10000000

prints a row per size. What the real files would take is extrapolated from the last two, and says
so: they were not available.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from models.evaluation.recsys2025.generated import EVENTS, Plan, write

MIB = 1024
REAL = sum(EVENTS.values())


@dataclass(frozen=True)
class Row:
    """One run of the command."""

    events: int
    seconds: float
    """Wall clock, start of the process included."""
    peak_mib: float
    """Largest resident memory of the process."""

    def text(self) -> str:
        """A line of the table."""
        rate = self.seconds / self.events * 1e6
        return (
            f"{self.events:>12,} events {self.seconds:8.1f} s {rate:6.2f} s/million"
            f" {self.peak_mib:8.0f} MiB"
        )


def measure(folder: Path, events: int, options: list[str]) -> Row:
    """Run the command on a folder of about so many events.

    Raises:
        RuntimeError: it failed.
    """
    program = "from stream.cli.main import main; main()"
    command = [sys.executable, "-c", program, "evaluate", "recsys2025", "--data", str(folder)]
    begun = time.monotonic()
    child = os.posix_spawn(sys.executable, [*command, *options], os.environ)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"the evaluation of {folder} ended with status {status}")
    return Row(events, time.monotonic() - begun, used.ru_maxrss / MIB)


def extrapolated(rows: list[Row]) -> Row:
    """The real files, by the line through the last two rows."""
    small, large = rows[-2:]
    more = (REAL - large.events) / (large.events - small.events)
    return Row(
        REAL,
        large.seconds + more * (large.seconds - small.seconds),
        large.peak_mib + more * (large.peak_mib - small.peak_mib),
    )


def run(
    events: Annotated[list[int], typer.Option(min=1, help="Sizes, ascending; repeat it.")],
    seeds: Annotated[int, typer.Option(min=1)] = 1,
    networks: Annotated[str, typer.Option(help="As of the command.")] = "logistic,blend,gru",
) -> None:
    """Measure each size and print a row."""
    rows: list[Row] = []
    for size in events:
        with tempfile.TemporaryDirectory() as kept:
            write(Path(kept), Plan(size))
            rows.append(measure(Path(kept), size, ["--seeds", str(seeds), "--networks", networks]))
        print(rows[-1].text(), flush=True)
    if len(rows) > 1:
        print(f"{extrapolated(rows).text()} (extrapolated)")


if __name__ == "__main__":
    typer.run(run)
