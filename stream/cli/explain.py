"""`intentstream explain`: make a prediction again, and show what it rests on."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

if TYPE_CHECKING:
    from stream.operations.explain import Explanation

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
    import msgspec

    from stream.errors import ExplainError

    try:
        from stream.operations.explain import explain as find
        from stream.operations.explain_picture import draw
    except ModuleNotFoundError as error:
        raise ExplainError(f"{error}: pip install 'intentstream[explain]'") from error

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
        _show(found)
    if found.exact is False:
        raise typer.Exit(1)


def _show(found: "Explanation") -> None:
    """Each target with the events that moved it most, and what else was told."""
    for target, probability in found.reproduced.items():
        told = "not kept" if found.published is None else f"{found.published[target]:.7f}"
        typer.echo(f"{target}: {probability:.7f}, published {told}")
        events = [event for event in found.history[target] if event.attribution is not None]
        for event in sorted(events, key=lambda e: -abs(e.attribution or 0))[:5]:
            typer.echo(f"  {event.attribution:+.4f} {event.type} {event.event_id}")
    if found.reproduced_wait_ms is not None:
        told = "not kept" if found.published_wait_ms is None else f"{found.published_wait_ms}"
        typer.echo(f"expected_wait_ms: {found.reproduced_wait_ms}, published {told}")
    for what, names in found.reproduced_next.items():
        first = ", ".join(f"{name} {share:.4f}" for name, share in names.items())
        typer.echo(f"next {what}: {first}")
