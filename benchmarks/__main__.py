"""Measure a worker and its peers: `python -m benchmarks --help`, `make bench`.

Writes bench.json after every part, so that a run that is cut short has what it measured.
"""

import asyncio
import logging
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import results
from benchmarks.part import Bench
from benchmarks.parts import PARTS
from benchmarks.place import Place
from benchmarks.processes import machine_busy
from benchmarks.race import RaceFailed
from benchmarks.sizes import FULL, QUICK, Sizes

console = Console(width=140)
BUSY = 0.15
# What a topic made a moment ago makes clients say.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def sizes_of(*, quick: bool, **changed: int | None) -> Sizes:
    """The sizes with what the command line changes."""
    sizes = QUICK if quick else FULL
    given: dict[str, Any] = {name: value for name, value in changed.items() if value is not None}
    return replace(sizes, **given)


def names_of(only: list[str] | None) -> list[str]:
    """The parts to run.

    Raises:
        BadParameter: there is no such part.
    """
    wrong = set(only or ()) - set(PARTS)
    if wrong:
        raise typer.BadParameter(f"no part {', '.join(wrong)}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if not only or name in only]


async def measure(bench: Bench, names: list[str], found: results.Results, out: Path) -> bool:
    """Run the parts, writing what there is after each; return whether all of them ran."""
    whole = True
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=name)
            begun = time.monotonic()
            try:
                raw = await PARTS[name].measure(bench)
            except RaceFailed as error:
                whole = False
                bench.say(f"{name} FAILED: {error}")
                found.setdefault("failed", {})[name] = str(error)
            else:
                found = results.added(found, name, raw)
                found.setdefault("took_seconds", {})[name] = round(time.monotonic() - begun, 1)
            results.write(found, out)
            progress.advance(task)
    return whole


def show(found: results.Results) -> None:
    """Print both tables."""
    table = Table("contestant", "events/s", "least to most", "CPU s per million")
    for name, row in found.get("contestants", {}).items():
        spread = f"{row['least']:,.0f} to {row['most']:,.0f}"
        table.add_row(name, f"{row['median']:,.0f}", spread, f"{row['cpu_median']:.1f}")
    console.print(table)
    table = Table("measure", "value", "unit", "target", "")
    verdicts = {True: "ok", False: "MISSED", None: ""}
    for row in found.get("measures", []):
        target = "" if row["target"] is None else f"{row['direction']} {row['target']:g}"
        verdict = verdicts[row["ok"]]
        table.add_row(row["name"], f"{row['value']:,g}", row["unit"], target, verdict)
    console.print(table)


def _leave(number: int, _: object) -> None:
    """End by way of the clean-up: broker, workers and folders do not stay behind."""
    raise SystemExit(128 + number)


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Parts to run: {', '.join(PARTS)}.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller, in minutes.")] = False,
    rounds: Annotated[
        int | None, typer.Option("--runs", min=1, help="Runs of each contestant.")
    ] = None,
    events: Annotated[int | None, typer.Option(min=1000, help="Of the common log.")] = None,
    users: Annotated[int | None, typer.Option(min=1, help="Of the common log.")] = None,
    many_users: Annotated[
        int | None, typer.Option(min=1, help="Of the restart, memory and bytes; 5000000, say.")
    ] = None,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="A broker that runs; its logs are used again.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add to what the file holds: another sitting.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1 when a target is missed.")
    ] = False,
    out: Annotated[Path, typer.Option("--json", help="Where to write.")] = Path("bench.json"),
) -> None:
    """Measure, write, print; what falls short is said in the table."""
    names = names_of(only)
    sizes = sizes_of(quick=quick, rounds=rounds, events=events, users=users, many_users=many_users)
    found = results.read(out) if append else {"raw": {}}
    busy = machine_busy(1.0)
    found["machine"] = results.machine() | {"busy_at_start": round(busy, 3)}
    if busy > BUSY:
        console.print(f"others use {busy:.0%} of this machine: the figures will say little")
    found["sizes"] = vars(sizes)
    signal.signal(signal.SIGTERM, _leave)
    with Place.open(bootstrap_servers) as place:
        bench = Bench(place, sizes, console.print)
        whole = asyncio.run(measure(bench, names, found, out))
    found = results.read(out)
    show(found)
    console.print(f"written to {out}")
    missed = [row["name"] for row in found.get("measures", []) if row["ok"] is False]
    if not whole or (strict and missed):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
