"""`intentstream produce`: replay a data set's file onto a topic."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import (
    BootstrapServers,
    ConfigFile,
    DataDir,
    Dates,
    Decimals,
    read_settings,
    wanted,
)
from stream.replay.formats import FORMATS
from stream.replay.report import Report

app = typer.Typer()


if TYPE_CHECKING:
    Format = str
else:
    # The choices of --format are the table's.
    Format = StrEnum("Format", {name: name for name in FORMATS})


class Order(StrEnum):
    """By event time, or as in the file."""

    TIME = "time"
    FILE = "file"


@app.command()
def produce(
    file: Annotated[
        Path, typer.Argument(help="The file; .gz, .zst, .bz2 and .lz4 are read as they are.")
    ],
    format_: Annotated[Format, typer.Option("--format", help="What the file is.")],
    speed: Annotated[
        str, typer.Option(help="Seconds of event time per second, such as 3600, or max.")
    ] = "max",
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most this many events.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="First event time to send: unix seconds, milliseconds or an ISO date."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="First event time no longer to send, as --since.")
    ] = None,
    order: Annotated[
        Order, typer.Option(help="Send by event time, or in the order of the file.")
    ] = Order.TIME,
    sort_memory: Annotated[
        int, typer.Option(min=1, help="MiB for sorting; what does not fit goes to disk.")
    ] = 256,
    dates: Dates = None,
    decimal: Decimals = None,
    topic: Annotated[str | None, typer.Option(help="Topic; default: the events topic.")] = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the summary here; - is standard output.")
    ] = None,
) -> None:
    """Replay FILE onto the events topic; every line is sent or counted with its reason.

    Exit status 1 if nothing was sent.
    """
    from stream.cli.replaying import run_production
    from stream.replay.errors import ReplayError
    from stream.replay.pace import Pace, parse_speed
    from stream.replay.source import parse_moment, read_rows

    low = parse_moment(since) if since else None
    high = parse_moment(until) if until else None
    if low is not None and high is not None and low >= high:
        raise ReplayError(f"--since {since} is not before --until {until}: no event can match")
    pace = Pace(parse_speed(speed))
    settings = read_settings(config, bootstrap_servers, data_dir)
    report = Report()
    rows = read_rows(
        file,
        str(format_),
        report,
        order=order.value,
        since=low,
        until=high,
        limit=limit,
        memory_bytes=sort_memory << 20,
        wanted=wanted(dates, decimal),
    )
    run_production(settings, rows, report, topic=topic, pace=pace, total=limit)
    _finish(report, topic or settings.topics.events, json_out)


def _finish(report: Report, topic: str, json_out: Path | None) -> None:
    from stream.cli.replaying import show_figures, show_rejects, write_json
    from stream.replay.errors import ReplayError

    if str(json_out) != "-":
        figures = {
            "lines read": report.lines,
            "events sent": report.sent,
            "outside --since/--until": report.outside.count,
            "unparsed": report.unparsed_count,
            "invalid": report.invalid_count,
            "beyond --limit": report.beyond_limit,
            "first event": _moment(report.first_time),
            "last event": _moment(report.last_time),
            "events per second": round(report.rate),
        }
        show_figures(f"{report.path} -> {topic}", figures)
        show_rejects(report)
    if json_out is not None:
        write_json(json_out, report.to_json())
    if report.interrupted:
        typer.echo("interrupted: the rest of the file was not sent", err=True)
        raise typer.Exit(130)
    if not report.sent:
        raise ReplayError(f"nothing was sent: {report.why_nothing()}")


def _moment(time: int | None) -> str:
    if time is None:
        return "-"
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
