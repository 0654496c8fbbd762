"""`intentstream outcomes`: judge predictions and alerts by what came true, and publish it."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

app = typer.Typer()


@app.command()
def outcomes(
    once: Annotated[
        bool, typer.Option("--once", help="Judge what there is, publish it and end.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the figures published last, one line each.")
    ] = False,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of published models. [var/models]")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Follow events, predictions and alerts; publish rolling figures, drift and verdicts.

    With --once the exit status is 1 if there is no prediction.

    Rankings of the next category and item are judged by what came next.

    A canary that is surely worse than the champion is rolled back. With outcomes.http_port set,
    /health and /metrics are served there.
    """
    from schemas.extras import need

    need("outcomes", "`intentstream outcomes`")
    import msgspec

    from stream.errors import OutcomesError
    from stream.logs import configure_logging
    from stream.outcomes.page import OutcomePages
    from stream.outcomes.service import OutcomeService

    configure_logging()
    settings = read_settings(config, bootstrap_servers, data_dir, models_dir=models_dir)
    service = OutcomeService(settings)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await service.run(once=once, stop=stop)

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        if settings.outcomes.http_port is not None and not once:
            pages = OutcomePages(settings, service)
            pages.start()
            stack.callback(pages.close)
        asyncio.run(run())
    if as_json:
        for found in service.metrics:
            typer.echo(msgspec.json.encode(found).decode())
    if once and not service.predictions:
        raise OutcomesError(
            f"there is no prediction in {settings.topics.propensity} to evaluate: run a worker,"
            " and produce events for it"
        )
    if once and not service.metrics:
        typer.echo(
            f"no figures yet: none of {service.predictions:,} predictions has matured", err=True
        )
