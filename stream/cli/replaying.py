"""What `produce` and `simulate` share: progress, interruption, and the summary."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from stream.config.settings import Settings
from stream.replay.errors import ReplayError
from stream.replay.order import Row
from stream.replay.pace import Pace
from stream.replay.produce import produce
from stream.replay.report import Report

__all__ = ["run_production", "show_figures", "show_rejects", "write_json"]

_REFRESH_S = 0.2


def run_production(
    settings: Settings,
    rows: Iterable[Row],
    report: Report,
    *,
    topic: str | None,
    pace: Pace,
    total: int | None,
) -> None:
    """Produce with a progress bar on standard error; Ctrl-C delivers what is under way, and stops.

    Args:
        settings: of the cluster and the default topic.
        rows: what to send.
        report: takes the counts.
        topic: where to; none: the events topic.
        pace: when each row is due.
        total: number of rows, where it is known beforehand.
    """
    asyncio.run(_run(settings, rows, report, topic, pace, total))


async def _run(
    settings: Settings,
    rows: Iterable[Row],
    report: Report,
    topic: str | None,
    pace: Pace,
    total: int | None,
) -> None:
    stop = asyncio.Event()

    def interrupt() -> None:
        report.interrupted = True
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        watching = asyncio.create_task(_watch(bar, report, total))
        try:
            await produce(settings, rows, topic=topic, pace=pace, report=report, stop=stop)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


async def _watch(bar: Progress, report: Report, total: int | None) -> None:
    task = bar.add_task("reading", total=None, detail="")
    try:
        while True:
            _update(bar, task, report, total)
            await asyncio.sleep(_REFRESH_S)
    finally:
        _update(bar, task, report, total)


def _update(bar: Progress, task: Any, report: Report, total: int | None) -> None:
    parts = [f"{report.sent:,} sent"]
    if report.lines:
        parts.insert(0, f"{report.lines:,} lines read")
    if report.outside.count:
        parts.append(f"{report.outside.count:,} outside")
    if report.rejected:
        parts.append(f"{report.rejected:,} rejected")
    bar.update(
        task,
        description="producing" if report.sent else "reading",
        total=total,
        completed=report.sent,
        detail=", ".join(parts),
    )


def show_figures(title: str, figures: Mapping[str, Any]) -> None:
    """Print a table of figures; numbers with thousands separators."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in figures.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        table.add_row(name.replace("_", " "), f"{value:,}" if number else str(value))
    Console().print(table)


def show_rejects(report: Report) -> None:
    """Print what was not sent, by reason, with the first line numbers of each."""
    rejected = [("outside", "", report.outside)] if report.outside.count else []
    rejected += [("unparsed", reason, tally) for reason, tally in report.unparsed.items()]
    rejected += [("invalid", reason, tally) for reason, tally in report.invalid.items()]
    if not rejected:
        return
    table = Table(title="not sent", title_justify="left")
    for heading in ("kind", "reason"):
        table.add_column(heading)
    table.add_column("lines", justify="right")
    table.add_column("line numbers")
    for kind, reason, tally in rejected:
        more = ", ..." if tally.count > len(tally.lines) else ""
        table.add_row(kind, reason, f"{tally.count:,}", ", ".join(map(str, tally.lines)) + more)
    Console().print(table)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write values as JSON to the file, or to standard output for `-`.

    Raises:
        ReplayError: the file cannot be written.
    """
    text = json.dumps(values, indent=2) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReplayError(f"cannot write the summary to {path}: {error}") from error
