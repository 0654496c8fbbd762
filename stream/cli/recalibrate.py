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
    from stream.cli.recalibrated import show_recalibrated
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
