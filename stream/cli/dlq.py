"""`intentstream dlq`: show dead letters and bring repaired ones back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

if TYPE_CHECKING:
    from stream.config.settings import Settings
    from stream.operations.dlq import Replay
    from stream.operations.letters import Choice

app = typer.Typer(no_args_is_help=True)

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="Only with this reason, e.g. wrong_partition; repeatable."),
]
Partition = Annotated[int | None, typer.Option(min=0, help="Only of this source partition.")]
First = Annotated[
    int | None, typer.Option("--from-offset", min=0, help="Least source offset to include.")
]
Last = Annotated[
    int | None, typer.Option("--to-offset", min=0, help="Greatest source offset to include.")
]


@app.command()
def show(
    reason: Reasons = None,
    partition: Partition = None,
    from_offset: First = None,
    to_offset: Last = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table: the newest.")] = 50,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="All, each as a line of JSON: the beginnings of a file to repair."
        ),
    ] = False,
    config: ConfigFile = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
) -> None:
    """Show what could not be used, why, and whether it was brought back."""
    import asyncio

    settings = read_settings(config, bootstrap_servers, data_dir)
    choice = _choice(reason, partition, from_offset, to_offset)
    asyncio.run(_print_lines(settings, choice) if as_json else _table(settings, choice, limit))


@app.command()
def replay(
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help='Lines of `dlq show --json`, each with the repaired event added: "event": {...}',
        ),
    ] = None,
    reason: Reasons = None,
    partition: Partition = None,
    from_offset: First = None,
    to_offset: Last = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every letter that would be accepted now.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
    app_id: Annotated[str | None, typer.Option(help="Of the workers. [intentstream]")] = None,
    config: ConfigFile = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
) -> None:
    """Bring dead letters back, each once however often this runs.

    With --from as repaired there; without it unchanged, under the key and in the partition of their
    user (which heals wrong_partition, key_missing and key_mismatch). Exit status 1 if a line of
    FILE could not be brought back, or nothing is or was.
    """
    import asyncio

    from stream.errors import DeadLetterError
    from stream.operations.dlq import replay as bring_back
    from stream.operations.letters import read_repairs

    choice = _choice(reason, partition, from_offset, to_offset)
    if from_file is None and not everything and not choice.narrows:
        raise DeadLetterError(
            "say what to bring back: --from FILE, a filter such as --reason wrong_partition, or"
            " --all"
        )
    repairs = None if from_file is None else read_repairs(from_file)
    settings = read_settings(config, bootstrap_servers, data_dir, app_id=app_id)
    told = asyncio.run(bring_back(settings, choice, repairs, dry_run=dry_run))
    _tell(told, settings, dry_run=dry_run, as_json=as_json)
    if not told.replayed and not told.before:
        raise DeadLetterError(
            f"nothing was brought back: {told.chosen:,} dead letters were chosen; see `intentstream"
            " dlq show` for what there is, and add the repaired events to the lines of FILE"
        )
    if repairs is not None and (told.refused or told.unknown):
        raise typer.Exit(1)


def _choice(
    reasons: list[str] | None, partition: int | None, first: int | None, last: int | None
) -> "Choice":
    from schemas.errors import Reason
    from stream.errors import DeadLetterError
    from stream.operations.letters import Choice

    known = {reason.value for reason in Reason}
    for reason in reasons or ():
        if reason not in known:
            raise DeadLetterError(
                f"--reason {reason}: there is no such reason; there are {', '.join(sorted(known))}"
            )
    return Choice(frozenset(reasons or ()), partition, first, last)


async def _print_lines(settings: "Settings", choice: "Choice") -> None:
    from stream.operations.letters import letters, to_line

    async for letter, replayed in letters(settings, choice):
        typer.echo(to_line(letter, replayed=replayed))


async def _table(settings: "Settings", choice: "Choice", limit: int) -> None:
    from collections import Counter, deque

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from stream.operations.letters import letters
    from stream.operations.watch import VIEWS, moment, printable

    view = VIEWS["dead-letter"]
    rows: deque[tuple[str, ...]] = deque(maxlen=limit)
    reasons: Counter[str] = Counter()
    brought_back = 0
    async for letter, replayed in letters(settings, choice):
        reasons[letter.reason.value] += 1
        brought_back += replayed
        when = "-" if letter.timestamp is None else moment(letter.timestamp)
        rows.append((*view.cells(letter), when, "yes" if replayed else ""))
    if rows:
        table = Table(*view.columns, "sent (UTC)", "brought back")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        Console().print(table)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    typer.echo(
        f"{reasons.total():,} dead letters{': ' if counts else ''}{counts};"
        f" {brought_back:,} brought back"
    )


def _tell(told: "Replay", settings: "Settings", *, dry_run: bool, as_json: bool) -> None:
    import msgspec

    from stream.cli.replaying import show_figures

    if as_json:
        typer.echo(msgspec.json.encode(told))
        return
    figures = {
        "chosen": told.chosen,
        "would be brought back" if dry_run else "brought back": told.replayed,
        "brought back before": told.before,
        "without a repaired event": told.unrepaired,
        "clipped (read the source)": told.clipped,
        "of users who asked to be forgotten": told.erased,
        **{f"still invalid: {reason}": count for reason, count in sorted(told.refused.items())},
    }
    show_figures(f"{settings.topics.dead_letter} -> {settings.topics.events}", figures)
    for where in told.unknown:
        typer.echo(f"no such dead letter (or not chosen): {where}", err=True)
