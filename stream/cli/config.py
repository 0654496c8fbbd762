"""`intentstream config`: show the settings in effect, check a file, write the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir

if TYPE_CHECKING:
    from stream.config.names import Problem

app = typer.Typer(
    no_args_is_help=True, help="Settings: what is in effect, whether a file is right, all of them."
)


@app.command()
def show(
    config: ConfigFile = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Print every setting in effect with its source, as TOML; secrets are hidden."""
    from stream.cli.options import with_local_broker
    from stream.config import showing
    from stream.config.loading import Sources

    options = {"kafka": {"bootstrap_servers": bootstrap_servers}, "data_dir": data_dir}
    # Once: a pipe, such as `--config <(decrypt shop.toml)`, has its text only once.
    sources = Sources.read(config, options)
    settings = sources.settings()
    named = settings.kafka.bootstrap_servers
    servers = with_local_broker(settings).kafka.bootstrap_servers
    # A command finds the broker that runs here by its data folder.
    found = {"kafka.bootstrap_servers": servers} if servers != named else {}
    shown = showing.effective(sources, found)
    typer.echo(showing.as_json(shown) if as_json else showing.as_toml(shown).rstrip())


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file of settings.")],
    environment: Annotated[
        bool,
        typer.Option(
            "--environment",
            help="Together with the variables here, as a command would read it: for secrets, say.",
        ),
    ] = False,
) -> None:
    """Find everything that is wrong with a file of settings; exit status 1 if anything is."""
    from stream.config.layers import read_file
    from stream.config.loading import Sources

    sources = Sources.read(file) if environment else Sources((read_file(file),))
    problems = sources.problems()
    for problem in sorted(problems, key=_order):
        typer.echo(str(problem), err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{file} is right")


@app.command()
def reference(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="File to write to.")
    ] = None,
) -> None:
    """Print what all settings mean, as Markdown, or write it to a file (docs/settings.md)."""
    from stream.config import reference as page

    if out is None:
        typer.echo(page.reference().rstrip())
        return
    changed = page.write_reference(out)
    typer.echo(f"{out} is {'written' if changed else 'up to date'}")


def _order(problem: Problem) -> tuple[str, int]:
    """Sorts by file and line, as one reads."""
    file, _, line = problem.place.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (problem.place, 0)
