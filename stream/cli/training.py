"""What `intentstream train` shows: progress while it runs, figures when it is done."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from models.fitting.distributed import SINGLE, Group
from models.fitting.fit import Progress as Epoch
from models.ranking.judge import GAIN
from models.serving.manifest import Manifest
from models.training.train import describe
from stream.learning.trainer import Round

_METRICS: Final = ("roc_auc", "pr_auc", "log_loss", "ece")


class Shown:
    """A progress bar on standard error, and a line per epoch."""

    def __init__(self, group: Group = SINGLE) -> None:
        """Only the first of several processes shows anything."""
        self._silent = not group.leads

    def __enter__(self) -> Self:
        """Prepare the display; it starts with the first news."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the display."""
        if self._tasks:
            self._progress.stop()

    def count(self, done: int, total: int) -> None:
        """Show how many records are read."""
        self._update("reading events", done, total)

    def epoch(self, news: Epoch) -> None:
        """Show an epoch and its losses."""
        self._update(f"fitting {news.architecture}", news.epoch, news.epochs)
        self._progress.console.print(
            f"{news.architecture} epoch {news.epoch}/{news.epochs}:"
            f" loss {news.train_loss:.4f}, held out {news.stopping_loss:.4f}",
            highlight=False,
        )

    def _update(self, name: str, done: int, total: int) -> None:
        if self._silent:
            return
        if not self._tasks:
            self._progress.start()
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)


def show_round(done: Round, json_out: Path | None) -> None:
    """Show a published model next to the baselines, and write its manifest where asked."""
    manifest = done.manifest
    if str(json_out) != "-":
        console = Console()
        console.print(
            f"published {manifest.version} in {done.seconds:.1f} s"
            f" ({'announced' if done.announced else 'not announced'}) -> {done.folder}",
            highlight=False,
            soft_wrap=True,
        )
        console.print(f"chosen {manifest.choice}", highlight=False, soft_wrap=True)
        console.print(figures_table(manifest))
        for line in data_lines(manifest):
            console.print(line, highlight=False, soft_wrap=True)
    if json_out is not None:
        text = describe(manifest).decode() + "\n"
        if str(json_out) == "-":
            typer.echo(text, nl=False)
        else:
            json_out.write_text(text, encoding="utf-8")


def figures_table(manifest: Manifest) -> Table:
    """The model's figures per target on the validation slice, and the baselines'."""
    table = Table("target", "model", *_METRICS)
    rows = {manifest.architecture: manifest.metrics} | manifest.baselines
    for target in manifest.targets:
        for name, figures in rows.items():
            cells = [figures.get(f"{target.name}.{metric}") for metric in _METRICS]
            table.add_row(
                target.name, name, *("-" if cell is None else f"{cell:.4f}" for cell in cells)
            )
    return table


def data_lines(manifest: Manifest) -> Iterator[str]:
    """What it ranks, and what it was fitted on: how much, how uneven, what was wrong with it."""
    window, found = manifest.window, manifest.cleaning
    for name, points in window.examples.items():
        rates = window.positives.get(name, {})
        shares = ", ".join(f"{target} {rate:.1%} positive" for target, rate in rates.items())
        yield f"{name}: {points:,} points; {shares}"
    counts = {
        name.replace("_", " "): getattr(found, name)
        for name in found.__struct_fields__
        if name not in {"read", "invalid", "impossible_units"}
    }
    counts |= {
        f"times that look like {unit}": count
        for unit, count in sorted(found.impossible_units.items())
    }
    counts |= {f"invalid, {reason}": count for reason, count in sorted(found.invalid.items())}
    seen = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    for ranking in manifest.rankings:
        others = ", ".join(f"{name} {own[GAIN]:.4f}" for name, own in ranking.baselines.items())
        yield f"next {ranking.what}: {GAIN} {ranking.metrics[GAIN]:.4f}; {others}"
    yield f"data: {window.events:,} of {found.read:,} events, {window.users:,} users; {seen}"


def waiter() -> Callable[[float], bool]:
    """A sleep that SIGTERM ends; True when it did. SIGINT goes on as KeyboardInterrupt."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)

    def wait(seconds: float) -> bool:
        return stop.wait(seconds)

    return wait
