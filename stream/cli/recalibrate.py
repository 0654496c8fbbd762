"""`intentstream recalibrate`: fit the champion's calibration to the labels of the last weeks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import (
    BootstrapServers,
    ConfigFile,
    DataDir,
    Dates,
    Decimals,
    read_settings,
    wanted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.serving.recalibration import Finding
    from stream.learning.recalibrating import Recalibrated

app = typer.Typer()


@app.command()
def recalibrate(
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="kafka|FILE", help="Events topic, or files; repeatable. [kafka]"
        ),
    ] = None,
    format_name: Annotated[
        str, typer.Option("--format", help="What the files are: parquet, or as for `produce`.")
    ] = "jsonl",
    dates: Dates = None,
    decimal: Decimals = None,
    every: Annotated[
        str | None, typer.Option(metavar="7d", help="Again and again at this interval.")
    ] = None,
    announce: Annotated[
        bool, typer.Option("--announce/--no-announce", help="Tell running workers.")
    ] = True,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of published models. [var/models]")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write what was found here; - is standard output.")
    ] = None,
) -> None:
    """Map the champion's probabilities to the labels of the last weeks, and tell the workers.

    A map is kept where it surely does no harm, at events and at timers apart; else the
    probabilities stay as they are, and a line says why.
    """
    from schemas.errors import IntentStreamError
    from stream.cli.train import KAFKA, interval_of, source_of
    from stream.cli.training import Shown, waiter
    from stream.learning.recalibrating import recalibrate as recalibrate_once
    from stream.learning.trainer import rounds
    from stream.logs import configure_logging

    configure_logging("warning")
    settings = read_settings(config, bootstrap_servers, data_dir, models_dir=models_dir)
    interval = interval_of(every)
    names = source or [KAFKA]

    def once() -> "Recalibrated":
        with Shown() as shown:
            # A log is read from its beginning each time: nothing of it is kept in between.
            events = source_of(settings, names, format_name, wanted(dates, decimal))
            return recalibrate_once(settings, events, count=shown.count, announced=announce)

    for outcome in rounds(interval, once, None if interval is None else waiter()):
        if isinstance(outcome, IntentStreamError):
            typer.echo(f"intentstream: {outcome}; trying again in {every}", err=True)
        else:
            show_recalibrated(outcome, json_out)


def show_recalibrated(done: "Recalibrated", json_out: Path | None = None) -> None:
    """Show what was found, and write it where asked."""
    import msgspec

    found = done.found
    if str(json_out) != "-":
        told = "announced" if done.announced else "not announced"
        state = f"{found.version} of {found.model_version} ({told})"
        typer.echo(f"recalibrated {state} in {done.seconds:.1f} s")
        for line in lines_of(found.findings):
            typer.echo(line)
    if json_out is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
        if str(json_out) == "-":
            typer.echo(text, nl=False)
        else:
            json_out.write_text(text, encoding="utf-8")


def lines_of(findings: "tuple[Finding, ...]") -> "Iterator[str]":
    """One line per target and population."""
    for one in findings:
        where = f"{one.target} {'at events' if one.population == 'event' else 'at timers'}"
        if not one.figures:
            yield f"{where}: as it is: {one.why}"
            continue
        figures = one.figures
        yield (
            f"{where}: {'mapped' if one.kept else 'as it is'}: {one.why}; calibration error"
            f" {figures['before.ece']:.4f} -> {figures['after.ece']:.4f} (chance"
            f" {figures['ece_chance']:.4f}), log-loss {figures['before.log_loss']:.4f} ->"
            f" {figures['after.log_loss']:.4f} over {figures['points']:,.0f} labels of"
            f" {figures['users']:,.0f} users"
        )
