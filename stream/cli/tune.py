"""`intentstream tune`: search for the settings of training within a time budget."""

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
    from models.training.tune import Trial, Tuned

app = typer.Typer()

SETTINGS = {
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "windows": "batch_size",
    "clip_norm": "clip_norm",
    "warm_up": "warm_up",
    "next_action_weight": "next_action_weight",
    "logistic_penalty": "logistic_penalty",
}
"""Field of the fit's configuration -> setting of the section [train]."""


@app.command()
def tune(
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="kafka|FILE", help="As for `train`. [kafka]"),
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
    budget: Annotated[
        str, typer.Option("--for", metavar="10m", help="No trial begins after this time.")
    ] = "10m",
    trials: Annotated[int, typer.Option(min=1, help="Trials, at most.")] = 1000,
    architecture: Annotated[
        str | None, typer.Option(help="What to tune. [the setting train.architecture]")
    ] = None,
    toml_out: Annotated[
        Path | None,
        typer.Option("--toml", help="Write the best settings here, for `train --config`."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a fit.")] = 1,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Try settings, show what came of them, and write the best ones."""
    from schemas.extras import need

    need("train", "`intentstream tune`")
    import time

    import torch

    from models.devices import pick_device
    from models.log.eventlog import Until
    from models.training.gather import gather
    from models.training.tune import tune as search
    from stream.cli.train import KAFKA, source_of
    from stream.cli.training import Shown
    from stream.config.durations import parse_duration
    from stream.config.targets import targets_of
    from stream.errors import TrainerError
    from stream.learning.trainer import config_of
    from stream.replay.source import parse_moment

    settings = read_settings(
        config, bootstrap_servers, data_dir, train={"architecture": architecture}
    )
    try:
        seconds = parse_duration(budget) / 1000
    except ValueError as error:
        raise TrainerError(f"--for: {error}") from error
    torch.set_num_threads(threads)
    events = source_of(settings, source or [KAFKA], format_name, wanted(dates, decimal))
    chosen = config_of(settings, drop_late=events.in_arrival_order)
    targets = targets_of(settings)
    with Shown() as shown:
        log = events.read(shown.count)
    gathered = gather(
        log if until is None else Until(log, parse_moment(until)),
        targets,
        chosen.dataset,
        drop_late=chosen.drop_late,
        now=time.time_ns() // 1_000_000,
        invalid=events.refused,
    )
    tuned = search(
        gathered.examples,
        targets,
        settings.train.architecture,
        chosen.fit,
        hidden_size=chosen.hidden_size,
        seconds=seconds,
        most=trials,
        device=pick_device(device),
        report=_show_trial,
    )
    _show(tuned, toml_out)


def _show_trial(trial: "Trial") -> None:
    typer.echo(
        f"trial {trial.number}: {trial.ended}, loss {trial.loss:.5f}, {trial.seconds:.1f} s",
        err=True,
    )


def _show(tuned: "Tuned", toml_out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from models.training.tune import as_toml
    from stream.errors import TrainerError

    names = list(tuned.best.settings)
    table = Table("trial", "loss", "s", "", *names)
    for trial in sorted(tuned.trials, key=lambda t: (t.ended != "complete", t.loss, t.number)):
        values = (f"{trial.settings[name]:.4g}" for name in names)
        ended = "best" if trial is tuned.best else trial.ended
        table.add_row(
            str(trial.number), f"{trial.loss:.5f}", f"{trial.seconds:.1f}", ended, *values
        )
    Console().print(table)
    text = as_toml(tuned.config, {name: SETTINGS[name] for name in names})
    typer.echo(text, nl=False)
    if toml_out is not None:
        try:
            toml_out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise TrainerError(f"cannot write {toml_out}: {error}") from error
