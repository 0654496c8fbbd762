"""`intentstream health`: ask the worker of this machine whether it does its work."""

from typing import Annotated, Any

import typer

from stream.cli.options import ConfigFile, DataDir, read_settings

app = typer.Typer()


@app.command()
def health(
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Of its pages. [worker.http_port]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What it says, as it says it.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Show a worker's own view of itself. Exit status 0 when it is ready, 1 when not."""
    import json

    from stream.errors import WorkerError

    settings = read_settings(config, None, data_dir, worker={"http_port": port}).worker
    if not settings.http_port:
        raise WorkerError("no port to ask: set worker.http_port for the worker and here, or --port")
    ready, document = _ask(settings.http_host, settings.http_port, settings.http_secret())
    if as_json:
        typer.echo(json.dumps(document))
    else:
        for line in _lines(document):
            typer.echo(line)
    raise typer.Exit(0 if ready else 1)


def _ask(host: str, port: int, token: str | None) -> tuple[bool, dict[str, Any]]:
    """Return (ready, document).

    Raises:
        WorkerError: nobody answers, or with something else.
    """
    import json
    from http.client import HTTPConnection, HTTPException

    from stream.errors import WorkerError

    # An address to listen on everywhere is none to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    connection = HTTPConnection(host, port, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", "/health", headers=headers)
        response = connection.getresponse()
        body = response.read()
        document = json.loads(body) if response.status in (200, 503) else None
    except (OSError, HTTPException, ValueError) as error:
        raise WorkerError(f"no worker answers at {host}:{port}: {error}; is it running?") from error
    finally:
        connection.close()
    if not isinstance(document, dict):
        raise WorkerError(
            f"{host}:{port} answers {response.status} {response.reason}: check the port and"
            " worker.http_token"
        )
    return response.status == 200, document  # noqa: PLR2004


def _lines(document: dict[str, Any]) -> list[str]:
    ready = "ready" if document["ready"] else "not ready"
    lines = [f"{document['worker']}: {ready} ({document['phase']}), model {document['model']}"]
    lines += [f"  {problem}" for problem in document["problems"]]
    for partition in document["partitions"]:
        step = f" ({partition['step']})" if partition["step"] else ""
        lines.append(
            f"  partition {partition['partition']}: {partition['state']}{step},"
            f" offset {partition['offset']}, {partition['lag']} behind"
        )
    return lines
