"""`intentstream schemas`: write the schema documents, or check them against the code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="JSON Schemas and AsyncAPI document of all messages.")


@app.command()
def generate(
    out: Annotated[Path | None, typer.Option(help="Folder to write to.")] = None,
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help="Write even what breaks existing readers.")
    ] = False,
) -> None:
    """Write the documents; refuses a change that breaks readers or writers already out there."""
    from schemas import generate as documents

    folder = out or documents.GENERATED
    changed = documents.generate(folder, allow_breaking=allow_breaking)
    typer.echo(f"{len(changed)} of {len(documents.build())} documents changed in {folder}")


@app.command()
def check(
    against: Annotated[
        Path | None, typer.Option(help="Folder of the documents to compare with.")
    ] = None,
) -> None:
    """Compare the code with the committed documents; exit status 1 when they differ."""
    from schemas import generate as documents

    found = documents.check(against or documents.GENERATED)
    for line in found.breaks:
        typer.echo(f"incompatible: {line}", err=True)
    if found.outdated and not found.breaks:
        names = ", ".join(found.outdated)
        typer.echo(f"outdated: {names}: run `intentstream schemas generate`", err=True)
    if not found.ok:
        raise typer.Exit(1)
    typer.echo(f"{len(documents.build())} documents are up to date and compatible")
