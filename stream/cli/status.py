"""`intentstream status`: lag, rates, counters, model and timers of the running workers."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings
from stream.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    from stream.operations.status_report import StatusReport

app = typer.Typer()

_REFRESH_S: Final = 2.0
_ALL: Final = 1 << 30
"""Lines of a table."""
_PARTITIONS: Final = ("partition", "lag", "committed", "end", "events/s", "watermark", "heartbeat")
_MODELS: Final = (
    "model",
    "role",
    "target",
    "matured",
    "AUC",
    "recency",
    "log-loss",
    "ECE",
    "lift",
)
_RANKINGS: Final = ("model", "role", "ranking", "judged", "hit rate", "last", "NDCG")


@app.command()
def status(
    keep_watching: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON; with --watch one per look.")
    ] = False,
    app_id: Annotated[
        str | None, typer.Option("--app-id", help="Of the workers. [intentstream]")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show how the workers are doing. Exit status 0 also when none runs."""
    settings = read_settings(config, bootstrap_servers, data_dir, app_id=app_id)
    try:
        asyncio.run(_show(settings, keep_watching=keep_watching, as_json=as_json))
    except KeyboardInterrupt:
        return


async def _show(settings: Settings, *, keep_watching: bool, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from stream.operations.status_report import open_status

    async with open_status(settings) as reader:
        if not keep_watching or as_json or not sys.stdout.isatty():
            while True:
                _print(await reader.read(), as_json=as_json)
                if not keep_watching:
                    return
                await asyncio.sleep(_REFRESH_S)
        with Live(_tables(await reader.read()), console=Console(), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(_REFRESH_S)
                live.update(_tables(await reader.read()), refresh=True)


def _print(report: "StatusReport", *, as_json: bool) -> None:
    import msgspec
    from rich.console import Console

    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        Console().print(_tables(report))


def _tables(report: "StatusReport") -> "RenderableType":
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from stream.operations.watch import duration, moment

    title = f"{report.app_id} on {report.topic}"
    figures = Table(title=title, title_justify="left", show_header=False, box=SIMPLE)
    totals = report.totals
    for name, text in {
        "workers": ", ".join(report.workers) or "none alive",
        "model": ", ".join(report.model_versions) or "-",
        "on trial": ", ".join(
            [f"canary {v}" for v in report.canaries] + [f"shadow {v}" for v in report.shadows]
        )
        or "-",
        "published last": report.published or "-",
        "lag": f"{report.lag:,} records",
        **({"lost": f"{report.lost:,} records, by retention"} if report.lost else {}),
        "rate": f"{report.events_per_second:,.0f} events/s,"
        f" {report.predictions_per_second:,.0f} predictions/s",
        "consumed": f"{totals['consumed']:,} = {totals['accepted']:,} accepted"
        f" + {totals['duplicate']:,} duplicate + {totals['late']:,} late"
        f" + {totals['invalid']:,} invalid",
        "written": f"{totals['predictions']:,} predictions, {totals['alerts']:,} alert messages,"
        f" {report.dead_letters:,} dead letters",
        "alerts raised": "; ".join(report.raise_at) or "-",
        "users": f"{totals['users']:,}",
        "next timer": moment(report.timers_due_at) if report.timers_due_at is not None else "-",
    }.items():
        figures.add_row(name, Text(text))
    for client in report.clients:
        figures.add_row(
            "wrong partition",
            Text(
                f"{client.share:.0%} of {report.misplaced:,} letters: {client.partitioner},"
                f" {client.remedy}; docs/clients.md"
            ),
        )
    partitions = [
        (
            str(row.partition),
            f"{row.lag:,}",
            "-" if row.committed is None else f"{row.committed:,}",
            f"{row.end:,}",
            f"{row.events_per_second:,.0f}",
            moment(row.heartbeat.watermark) if row.heartbeat else "-",
            f"{duration(max(report.at - row.heartbeat.updated_at, 0))} ago"
            if row.heartbeat
            else "never",
        )
        for row in report.partitions
    ]
    parts: list[RenderableType] = [figures, _Rows(_PARTITIONS, partitions)]
    if any(model.targets for model in report.models):
        parts.append(_models(report))
    if any(model.rankings for model in report.models):
        parts.append(_rankings(report))
    parts += [Text(f"ALARM {alarm}") for alarm in report.alarms]
    return Group(*parts)


def _models(report: "StatusReport") -> "_Rows":
    rows = []
    for model in report.models:
        for target, found in model.targets.items():
            figures = (found.auc, found.recency_auc, found.log_loss, found.ece, found.lift)
            rows.append(
                (
                    model.model_version,
                    model.rollout or "-",
                    target,
                    f"{found.matured:,}",
                    *("-" if figure is None else f"{figure:.4f}" for figure in figures),
                )
            )
    return _Rows(_MODELS, rows)


def _rankings(report: "StatusReport") -> "_Rows":
    rows = []
    for model in report.models:
        for what, found in model.rankings.items():
            figures = (found.hit_rate, found.last_hit_rate, found.ndcg)
            rows.append(
                (
                    model.model_version,
                    model.rollout or "-",
                    f"next {what}",
                    f"{found.judged:,}",
                    *(f"{figure:.4f}" for figure in figures),
                )
            )
    return _Rows(_RANKINGS, rows)


class _Rows:
    """A table whose columns stand side by side as far as the terminal is wide, then below."""

    def __init__(self, columns: "Sequence[str]", rows: "Sequence[Sequence[str]]") -> None:
        """A text per column."""
        self._columns = columns
        self._rows = rows

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> "Iterator[RenderableType]":
        """Lay it out for the width of the terminal."""
        from rich.text import Text

        from stream.operations.watch_rows import fitting_lines

        del console
        head, *lines = fitting_lines(self._columns, self._rows, options.max_width - 1, _ALL)
        yield Text(f" {head}", style="bold", no_wrap=True)
        for line in lines:
            yield Text(f" {line}", no_wrap=True)
        yield ""
