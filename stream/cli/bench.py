"""`intentstream bench`: measure parts of the program on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import ConfigFile, read_settings

if TYPE_CHECKING:
    import torch

    from models.devices import Precision
    from models.serving.measuring import Figure
    from models.serving.scorer import Scorer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure parts of the program on this machine."""


@app.command()
def scorer(
    version: Annotated[
        str | None, typer.Argument(help="A published model. [an untrained GRU of 64 units]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Events of a micro-batch; repeatable. [1, 4, ... 16384]"),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Per size and precision.")] = 2.0,
    threads: Annotated[
        int, typer.Option(min=1, help="Of torch; a worker has one, for it has other work too.")
    ] = 1,
    config: ConfigFile = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of published models. [var/models]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Measure how many events per second a model scores, for sizes of the micro-batch.

    On a GPU in single and in half precision. States and profiles are made up; reading events and
    keeping records is not part of it: for that there is `make bench`.
    """
    import msgspec
    import torch

    from models.devices import pick_device
    from models.serving.measuring import BATCHES, measure, untrained

    where = pick_device(device)
    settings = read_settings(config, models_dir=models_dir)

    def opened(precision: "Precision") -> "Scorer":
        from models.serving.registry import Registry
        from models.serving.scorer import Scorer
        from stream.config.trust import manifest_check

        if version is None:
            return Scorer.of_script(*untrained(), device, precision=precision)
        folder = Registry(settings.models_dir).resolve(version)
        check = manifest_check(settings.models)
        return Scorer.load(folder, device, precision=precision, check=check)

    def figures() -> Iterator["Figure"]:
        for model in models:
            for size in batch or BATCHES:
                yield measure(model, size, seconds)

    precisions: list[Precision] = ["float32"]
    if where.type == "cuda":
        precisions.append("half")
    models = [opened(precision) for precision in precisions]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        if as_json:
            found = {
                "model": models[0].version,
                "architecture": models[0].architecture,
                "hidden_size": models[0].hidden_size,
                "device": str(where),
                "device_name": _name(where),
                "torch": str(torch.__version__),
                "threads": threads,
                "figures": list(figures()),
            }
            typer.echo(msgspec.json.encode(found).decode())
        else:
            title = f"{models[0].version} on {_name(where)}, torch {torch.__version__}"
            _show(title, figures())
    finally:
        torch.set_num_threads(before)


def _show(title: str, figures: Iterator["Figure"]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    names = ("events", "ms, launch to fetch", "events/s, one ahead")
    table = Table("precision", *(Column(name, justify="right") for name in names), title=title)
    for found in figures:
        table.add_row(
            found.precision,
            f"{found.batch:,}",
            f"{found.milliseconds:.3f}",
            f"{found.events_per_second:,.0f}",
        )
    Console().print(table)


def _name(device: "torch.device") -> str:
    import platform

    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.processor() or platform.machine()})"
