"""`intentstream topics`: create the topics that the worker needs, or check those that exist."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, TypeVar

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings
from stream.errors import TopicLayoutError

app = typer.Typer(no_args_is_help=True)

T = TypeVar("T")

AppId = Annotated[
    str | None, typer.Option("--app-id", help="Names the changelog. [default: intentstream]")
]
Partitions = Annotated[
    int | None, typer.Option("--partitions", min=1, help="Of the source. [default: 4]")
]
Replication = Annotated[
    int | None, typer.Option("--replication", min=1, help="Copies of each. [default: 1]")
]


@app.command()
def create(
    config: ConfigFile = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    app_id: AppId = None,
    partitions: Partitions = None,
    replication: Replication = None,
) -> None:
    """Create the topics that are missing, and check the others."""
    from stream.kafka.topics import create_topics, required_topics

    layout = {"partitions": partitions, "replication": replication}
    settings = read_settings(config, bootstrap_servers, data_dir, app_id=app_id, topics=layout)
    created = _run(create_topics(settings))
    for spec in required_topics(settings):
        state = "created" if spec.name in created else "was there"
        typer.echo(
            f"{spec.name}: {state}, partitions {spec.partitions}, replication {spec.replication},"
            f" {spec.cleanup}"
        )


@app.command()
def check(
    config: ConfigFile = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    app_id: AppId = None,
    partitions: Partitions = None,
    replication: Replication = None,
) -> None:
    """Check the topics; exit status 1 and a line per problem when one is not as needed."""
    from stream.kafka.topics import check_topics, required_topics

    layout = {"partitions": partitions, "replication": replication}
    settings = read_settings(config, bootstrap_servers, data_dir, app_id=app_id, topics=layout)
    _run(check_topics(settings))
    typer.echo(f"all {len(required_topics(settings))} topics are as the worker needs them")


def _run(work: Coroutine[None, None, T]) -> T:
    try:
        return asyncio.run(work)
    except TopicLayoutError as error:
        for problem in error.problems:
            typer.echo(f"intentstream: {problem}", err=True)
        raise typer.Exit(1) from error
