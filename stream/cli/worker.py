"""`intentstream worker`: consume events, score them, write predictions and alerts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

app = typer.Typer()


@app.command()
def worker(
    config: ConfigFile = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    app_id: Annotated[
        str | None,
        typer.Option(help="Names group, transactions and changelog. [default: intentstream]"),
    ] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of published models. [default: var/models]")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of the events topic. [default: 4]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")] = None,
    emit: Annotated[
        str | None,
        typer.Option(help="latest: a prediction per user and batch; every: per event."),
    ] = None,
    guarantee: Annotated[
        str | None, typer.Option(help="exactly_once or at_least_once. [default: exactly_once]")
    ] = None,
    clock: Annotated[
        str | None, typer.Option(help="What timers follow: wall, or event (replays).")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Most records of a partition in a batch.")
    ] = None,
    commit_interval: Annotated[
        str | None, typer.Option(metavar="100ms", help="Between transactions of a partition.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting, e.g. churn.raise_at=0.6."),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log lines as JSON.")] = False,
) -> None:
    """Consume events, score them, write predictions and alerts until stopped."""
    import asyncio

    from stream.config.rates import rates_of
    from stream.logs import configure_logging
    from stream.worker.service import run_worker

    configure_logging(log_level, as_json=log_json)
    overrides: dict[str, Any] = {
        "app_id": app_id,
        "models_dir": models_dir,
        "topics": {"partitions": partitions},
        "worker": {
            "device": device,
            "emit": emit,
            "guarantee": guarantee,
            "clock": clock,
            "batch_size": batch_size,
            "commit_interval_ms": commit_interval,
        },
    }
    for assignment in set_ or []:
        _assign(overrides, assignment)
    settings = read_settings(config, bootstrap_servers, data_dir, **overrides)
    rates_of(settings.money)  # A table that cannot be read ends the worker here.
    asyncio.run(run_worker(settings))


def _assign(overrides: dict[str, Any], assignment: str) -> None:
    """Put "section.name=value" into the tree of overrides."""
    from stream.config.catalog import settings_of
    from stream.config.settings import Settings
    from stream.errors import SettingsError

    name, equals, value = assignment.partition("=")
    *sections, leaf = name.strip().split(".")
    if not equals or not leaf:
        raise SettingsError(f"--set {assignment!r}: write NAME=VALUE, e.g. churn.raise_at=0.6")
    if name.strip() in {one.name for one in settings_of(Settings) if one.secret}:
        # Not repeated here: the line may end up in a log.
        raise SettingsError(
            f"--set {name.strip()}: every user of this machine can read a command line: use the"
            f" environment, a settings file or {name.strip()}_file"
        )
    place = overrides
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"--set {assignment!r}: {section} is no section of the settings")
        place = inner
    place[leaf] = value.strip()
