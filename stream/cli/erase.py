"""`intentstream erase`: forget users, and show what was removed."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.operations.forgetting import Forgotten

app = typer.Typer()


@app.command()
def erase(
    users: Annotated[
        list[str], typer.Argument(metavar="USER...", help="Ids; - reads one per line of input.")
    ],
    by: Annotated[str | None, typer.Option(help="Who asks; noted in the request.")] = None,
    wait: Annotated[
        str, typer.Option(metavar="60s", help="For the workers' receipts; 0: do not wait.")
    ] = "60s",
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON per user.")] = False,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of the events topic. [default: 4]")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Forget users: state, timers, changelog, and every training set from now on.

    An id is erased as it is: what was sent under another one, such as an anonymous visitor's, is
    not joined with it and has to be erased by that id.

    Exit status 0 when all are forgotten, 1 when receipts are missing: the requests wait in the log
    and are carried out as soon as a worker runs.
    """
    from stream.config.durations import parse_duration
    from stream.errors import EraseError, SettingsError
    from stream.operations.forgetting import forget

    try:
        wait_s = parse_duration(wait) / 1000
    except ValueError as error:
        raise SettingsError(f"--wait: {error}") from error
    topics = {"partitions": partitions}
    settings = read_settings(config, bootstrap_servers, data_dir, topics=topics)
    asked = asyncio.run(forget(settings, list(_named(users)), by=by, wait_s=wait_s))
    for each in asked:
        if as_json:
            typer.echo(_document(each))
        else:
            for line in _lines(each):
                typer.echo(line)
    missing = sum(not each.done for each in asked)
    if missing and wait_s:
        raise EraseError(
            f"no receipt for {missing} of {len(asked)} within {wait}: the requests are in"
            f" {settings.topics.erase} and are carried out as soon as a worker runs"
        )


def _named(users: list[str]) -> "Iterator[str]":
    """Ids as they are, blanks included; of the standard input each line that is not empty."""
    for user in users:
        if user == "-":
            yield from filter(None, (line.rstrip("\r\n") for line in sys.stdin))
        else:
            yield user


def _document(each: "Forgotten") -> str:
    import msgspec

    document: dict[str, Any] = {
        "user_id": each.user_id,
        "request_id": each.request_id,
        "forgotten": each.done,
        "removed": each.removed,
        "remaining": each.remaining,
        "notes": each.notes,
    }
    return msgspec.json.encode(document).decode()


def _lines(each: "Forgotten") -> list[str]:
    from stream.operations.watch import moment

    if not each.done:
        return [f"{each.user_id}: asked for, request {each.request_id}"]
    removed = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in each.removed.items())
    lines = [f"{each.user_id}: forgotten, removed {removed}"]
    if each.remaining:
        lines.append("  copies remain, by the topics' retention, at most until")
        for topic, until in sorted(each.remaining.items()):
            lines.append(f"    {moment(until) if until is not None else 'for ever':20} {topic}")
    return lines + [f"  {note}" for note in each.notes]
