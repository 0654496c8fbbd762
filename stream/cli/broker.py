"""`intentstream broker`: a real Kafka on this machine, without Docker or Java."""

from pathlib import Path
from typing import Annotated, Final

import typer

from stream.cli.options import ConfigFile, DataDir, broker_folder, read_settings
from stream.errors import BrokerError

DEFAULT_PORT: Final = 9092
"""Kafka's own, which README and the examples name."""

app = typer.Typer(no_args_is_help=True)


@app.command()
def start(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    brokers: Annotated[
        int | None, typer.Option(min=1, max=9, help="Nodes of a new cluster. [default: 1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Loopback port. [default: the one it had, or 9092 if free]"
        ),
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
    wanted = port or _free_default(folder)
    kafka = EmbeddedKafka(folder, brokers, extra, wanted)
    info = kafka.start(lambda line: typer.echo(line, err=True))
    if port is None and f":{DEFAULT_PORT}" not in info.bootstrap_servers:
        typer.echo(
            f"it does not use port {DEFAULT_PORT}, which README's examples name: put"
            f" {info.bootstrap_servers} there, or stop it and start it with --port",
            err=True,
        )
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
    from stream.broker.elsewhere import running_brokers

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
    if not nodes:
        others = "".join(f"; {servers} has its data in {at}" for servers, at in running_brokers())
        raise BrokerError(f"no cluster in {folder}: run `intentstream broker start`{others}")
    if not all(node.running and node.answers for node in nodes):
        raise BrokerError(f"no complete cluster runs in {folder}: run `intentstream broker start`")


def _free_default(folder: Path) -> int | None:
    """Return the default port for a new broker, None where it is taken or the broker has one."""
    from stream.broker import EmbeddedKafka
    from stream.broker.process import is_free

    return DEFAULT_PORT if not EmbeddedKafka(folder).status() and is_free(DEFAULT_PORT) else None


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise BrokerError(f"--property {text!r} is not of the form KEY=VALUE")
    return key, value
