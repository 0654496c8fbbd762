"""`intentstream train`: learn from the event log, publish a model and announce it."""

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
from stream.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.errors import IntentStreamError
    from stream.learning.refresh import Refresher
    from stream.learning.sources import Source
    from stream.learning.trainer import Round
    from stream.replay.adapter import Wanted

app = typer.Typer()

KAFKA = "kafka"


@app.command()
def train(
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
    until: Annotated[
        str | None,
        typer.Option(help="Last event time to learn from: unix seconds, ms or an ISO date."),
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="15m", help="Train again and again at this interval.")
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Learn from what came since the last --refresh run only."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a fit that was interrupted.")
    ] = False,
    tensorboard: Annotated[
        bool | None,
        typer.Option("--tensorboard/--no-tensorboard", help="Write curves to var/runs. [on]"),
    ] = None,
    purchase_horizon: Annotated[
        str | None, typer.Option(metavar="1d", help="Purchase: one within this time.")
    ] = None,
    churn_horizon: Annotated[
        str | None, typer.Option(metavar="30d", help="Churn: no purchase within this time.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the fit.")] = 1,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of published models. [var/models]")
    ] = None,
    announce: Annotated[
        bool, typer.Option("--announce/--no-announce", help="Tell running workers.")
    ] = True,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the manifest here; - is standard output.")
    ] = None,
) -> None:
    """Train on the events, and publish a model if it beats the baselines.

    With --refresh and --every nothing is published where nothing new came to learn from, such as
    repeated events alone: the exit status is 0, and a line says so.
    """
    from schemas.extras import need

    need("train", "`intentstream train`")
    import torch

    from models.fitting.distributed import SINGLE, Group, processes
    from schemas.errors import IntentStreamError
    from stream.cli.training import Shown, show_round, waiter
    from stream.errors import NothingNew
    from stream.learning.trainer import refresher_of, rounds, run_round
    from stream.logs import configure_logging
    from stream.replay.source import parse_moment

    configure_logging("warning")
    settings = read_settings(
        config,
        bootstrap_servers,
        data_dir,
        models_dir=models_dir,
        train={
            "purchase_horizon_ms": purchase_horizon,
            "churn_horizon_ms": churn_horizon,
            "tensorboard": tensorboard,
        },
    )
    interval = interval_of(every)
    last = parse_moment(until) if until else None
    torch.set_num_threads(threads)
    events = source_of(settings, source or [KAFKA], format_name, wanted(dates, decimal))

    kept = refresh or interval is not None
    refresher = refresher_of(settings, events, kept=refresh) if kept else None

    def once(group: Group = SINGLE) -> "Round":
        with Shown(group) as shown:
            return run_round(
                settings,
                events,
                until=last,
                device=device,
                announced=announce,
                count=shown.count,
                report=shown.epoch,
                group=group,
                resume=resume,
                refresher=refresher,
            )

    if interval is None:
        with processes() as group:
            try:
                done = once(group)
            except NothingNew as reason:
                if group.leads:
                    typer.echo(str(reason), err=str(json_out) == "-")
                return
            if group.leads:
                show_round(done, json_out)
        return
    after = _recalibrating(settings, refresher) if announce and refresher is not None else None
    for outcome in rounds(interval, once, waiter()):
        if isinstance(outcome, NothingNew):
            typer.echo(str(outcome), err=str(json_out) == "-")
        elif isinstance(outcome, IntentStreamError):
            _report_failure(outcome, every)
        else:
            show_round(outcome, json_out)
        if after is not None:
            after(isinstance(outcome, IntentStreamError))


def _recalibrating(settings: Settings, refresher: "Refresher") -> "Callable[[bool], None]":
    """What recalibrates the champion after a round, told whether nothing was published."""
    from schemas.errors import IntentStreamError
    from stream.cli.recalibrated import show_recalibrated
    from stream.learning.recalibrating import Recalibrating

    recalibrating = Recalibrating(settings, refresher)

    def after(nothing: bool) -> None:
        try:
            done = recalibrating.after(published=not nothing)
        except IntentStreamError as error:
            typer.echo(f"intentstream: not recalibrated: {error}", err=True)
        else:
            if done is not None:
                show_recalibrated(done)

    return after


def source_of(settings: Settings, names: list[str], format_name: str, wanted: "Wanted") -> "Source":
    """Kafka or files, as `--from` names them.

    Raises:
        TrainerError: it names both.
    """
    from stream.errors import TrainerError
    from stream.learning.sources import FromFiles, FromKafka

    if names == [KAFKA]:
        return FromKafka(settings)
    if KAFKA in names:
        raise TrainerError(f"--from {KAFKA} cannot be mixed with files: give one or the other")
    return FromFiles(tuple(Path(name) for name in names), format_name, settings, wanted)


def interval_of(text: str | None) -> int | None:
    """What `--every` says, ms.

    Raises:
        SettingsError: it is no time, or too short.
    """
    from stream.config.durations import SECOND_MS, parse_duration
    from stream.errors import SettingsError

    if text is None:
        return None
    try:
        interval = parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"--every: {error}") from error
    if interval < SECOND_MS:
        raise SettingsError(f"--every: {text} is too short: at least 1s, from start to start")
    return interval


def _report_failure(error: "IntentStreamError", every: str | None) -> None:
    typer.echo(f"intentstream: {error}; trying again in {every}", err=True)
