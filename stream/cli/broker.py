"""`intentstream broker`: a real Kafka on this machine, without Docker or Java."""

from typing import Annotated

import typer

from stream.cli.options import ConfigFile, DataDir, broker_folder, read_settings
from stream.errors import BrokerError

app = typer.Typer(no_args_is_help=True)


@app.command()
def start(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    brokers: Annotated[
        int | None, typer.Option(min=1, max=9, help="Nodes of a new cluster. [default: 1]")
    ] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="KEY=VALUE", help="Kafka server property; repeatable."),
    ] = None,
) -> None:
    """Start the broker, or find the one that runs, and print its bootstrap servers."""
    from stream.broker import EmbeddedKafka

    extra = dict(_pair(text) for text in properties or [])
    folder = broker_folder(read_settings(config, data_dir=data_dir))
    info = EmbeddedKafka(folder, brokers, extra).start(lambda line: typer.echo(line, err=True))
    for notice in info.notices:
        typer.echo(notice, err=True)
    state = "already running" if info.found else "started"
    pids = ", ".join(str(pid) for pid in info.pids.values())
    typer.echo(f"Kafka is {state} (pid {pids}), data in {folder}", err=True)
    typer.echo(info.bootstrap_servers)


@app.command()
def stop(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Stop the broker; its topics stay for the next start."""
    from stream.broker import EmbeddedKafka

    folder = broker_folder(read_settings(config, data_dir=data_dir))
    stopped = EmbeddedKafka(folder).stop()
    typer.echo("Kafka is stopped" if stopped else f"no broker runs in {folder}", err=True)


@app.command()
def status(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Show each broker's process and port; exit status 1 unless all of them answer."""
    from stream.broker import EmbeddedKafka

    folder = broker_folder(read_settings(config, data_dir=data_dir))
    nodes = EmbeddedKafka(folder).status()
    for node in nodes:
        words = "answers" if node.answers and node.running else "does not answer"
        process = f"pid {node.pid}" if node.running else "not running"
        if node.pid is not None and not node.running:
            process = f"ended without being stopped (pid {node.pid})"
        elif node.answers and not node.running:
            words = "taken by another program"
        typer.echo(f"broker {node.node}: {process}, 127.0.0.1:{node.port} {words}")
    if not nodes or not all(node.running and node.answers for node in nodes):
        raise BrokerError(f"no complete cluster runs in {folder}: run `intentstream broker start`")


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise BrokerError(f"--property {text!r} is not of the form KEY=VALUE")
    return key, value
