"""`intentstream watch`: predictions, alerts, dead letters or models as they come."""

import asyncio
import sys
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Self

import typer

from stream.cli.ending import give_up_output
from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings
from stream.config.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from stream.operations.watch import View

app = typer.Typer()

_POLL_S: Final = 0.25
_ROWS: Final = 20


class What(StrEnum):
    """The views; a test compares them with `stream.operations.watch.VIEWS`."""

    PREDICTIONS = "predictions"
    ALERTS = "alerts"
    DEAD_LETTER = "dead-letter"
    MODELS = "models"


@app.command()
def watch(
    what: Annotated[What, typer.Argument(help="What to watch.", show_default=False)],
    from_beginning: Annotated[
        bool,
        typer.Option(
            "--from-beginning", help="Start with what is there already; models always do."
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Each message as one line of JSON, for pipes.")
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show what comes: a live table in a terminal, otherwise a line per message. Ctrl-C ends it."""
    from stream.operations.watch import VIEWS

    settings = read_settings(config, bootstrap_servers, data_dir)
    shown = _Lines(VIEWS[what], as_json=True)
    if not as_json:
        shown = _LiveTable(VIEWS[what]) if sys.stdout.isatty() else _Lines(VIEWS[what])
    start = from_beginning or VIEWS[what].from_beginning
    try:
        with shown:
            asyncio.run(_follow(settings, shown, limit, from_beginning=start))
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # The reader of the pipe has closed it.
        give_up_output()


async def _follow(
    settings: Settings, shown: "_Lines", limit: int | None, *, from_beginning: bool
) -> None:
    from stream.kafka.tail import open_tail

    topic = shown.view.topic_name(settings.topics)
    async with open_tail(settings, [topic], from_beginning=from_beginning) as tail:
        shown.begin(topic)
        while limit is None or shown.count < limit:
            for record in await tail.poll(_POLL_S):
                if limit is None or shown.count < limit:
                    shown.add(record)
            shown.refresh()


class _Lines:
    """One line per message on standard output: JSON, or cells with tabs between them."""

    def __init__(self, view: "View", *, as_json: bool = False) -> None:
        self.view = view
        self.count = 0
        self._as_json = as_json

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()

    def begin(self, topic: str) -> None:
        """The topic is open."""

    def add(self, record: object) -> None:
        from stream.operations.watch import table_row, to_json

        if self._as_json:
            line = to_json(record)
        else:
            row = table_row(self.view, record)
            line = None if row is None else "\t".join(row)
        if line is not None:
            self.count += 1
            sys.stdout.write(line + "\n")

    def refresh(self) -> None:
        sys.stdout.flush()


class _LiveTable(_Lines):
    """The newest messages as a table that stays in place, as many as the terminal has lines for."""

    def __init__(self, view: "View", console: "Console | None" = None) -> None:
        super().__init__(view)
        self._console = console

    def __enter__(self) -> Self:
        from rich.live import Live

        self._rows: deque[tuple[str, ...]] = deque(maxlen=_ROWS)
        self._topic = ""
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, topic: str) -> None:
        self._topic = topic
        self.refresh()

    def add(self, record: object) -> None:
        from stream.operations.watch import table_row

        row = table_row(self.view, record)
        if row is not None:
            self.count += 1
            self._rows.append(row)

    def refresh(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> "Text":
        from rich.text import Text

        from stream.operations.watch_rows import fitting_lines

        title = f"{self._topic}: {self.count:,} since the start" if self._topic else "connecting"
        size = self._live.console.size
        # A line for the title, and one for the cursor.
        lines = fitting_lines(self.view.columns, self._rows, size.width, size.height - 2)
        picture = Text(f"{title}\n", no_wrap=True, overflow="ellipsis")
        picture.append(lines[0], style="bold")
        for line in lines[1:]:
            picture.append(f"\n{line}")
        return picture
