"""`intentstream explain`: make a prediction again, and show what it rests on."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

app = typer.Typer()


@app.command()
def explain(
    prediction_id: Annotated[str, typer.Argument(help="Of the prediction.")],
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write it all here; - is standard output.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE.png", help="Draw it here.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. [auto]")] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of published models. [var/models]")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Rebuild state, features and model of a prediction, and attribute it to past events.

    Exit status 1 when the published probability does not come out again.
    """
    from schemas.extras import need

    need("explain", "`intentstream explain`")
    import msgspec

    from stream.operations.explain import explain as find
    from stream.operations.explain_picture import draw
    from stream.operations.explain_text import explanation_lines

    settings = read_settings(
        config, bootstrap_servers, data_dir, models_dir=models_dir, worker={"device": device}
    )
    found = asyncio.run(find(settings, prediction_id))
    if picture is not None:
        draw(found, picture)
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    if json_out is not None and str(json_out) != "-":
        json_out.write_text(text + "\n", encoding="utf-8")
    elif json_out is not None:
        typer.echo(text)
    if str(json_out) != "-":
        typer.echo("\n".join(explanation_lines(found)))
    if found.exact is False:
        raise typer.Exit(1)
