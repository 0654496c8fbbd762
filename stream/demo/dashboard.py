"""The live picture of a demo in a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from models.targets import CHURN, PURCHASE
from stream.demo.collector import COUNTERS
from stream.demo.view import View, ratio
from stream.operations.watch import VIEWS, duration, moment, printable
from stream.operations.watch_rows import fitting_lines

if TYPE_CHECKING:
    from schemas.outputs import ChurnAlert, Prediction
    from stream.demo.collector import Collector
    from stream.demo.plan import Plan
    from stream.outcomes.window import Figures, PopulationFigures
    from stream.replay.report import Report

__all__ = ["Dashboard"]

_REFRESH_S: Final = 1.0
_BAR: Final = 20
_NARROW: Final = 110
_AT_LEAST: Final = 2
_LATEST: Final = 5
_FRAME: Final = 4
"""Columns that a panel's border takes."""
_ALL: Final = 1000
"""Lines: as many as there are."""


class Dashboard(View):
    """The same news as `View`, as one picture that stays in place."""

    every_s = _REFRESH_S

    def __init__(self, console: Console | None = None) -> None:
        """Take over the terminal until `close`."""
        super().__init__()
        self._console = console or Console()
        self._rate = 0.0
        self._last: tuple[float, int] | None = None
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def phase(self, name: str) -> None:
        """Another part of the demo begins."""
        self.name = name
        self.update()

    def update(self) -> None:
        """Draw everything anew."""
        self._live.update(self._picture(), refresh=True)

    def close(self) -> None:
        """Leave the last picture where it is."""
        self._live.stop()

    def _print(self, line: str) -> None:
        self._console.print(line, style="dim", highlight=False, markup=False)

    def _picture(self) -> RenderableType:
        elapsed = f"{time.monotonic() - self.began:.0f} s"
        if self.plan is None or self.collector is None or self.report is None:
            return Text(f"{self.name}, {elapsed}")
        counts, models = self._counts(self.collector, self.report), _models(self.collector)
        wide = self._console.width >= _NARROW
        parts = [
            _header(self.name, elapsed, self.plan, self.report),
            _beside(counts, models) if wide else Group(counts, models),
            _figures(self.collector),
            _latest_predictions(list(self.collector.latest_predictions), self._console.width),
            _latest_alerts(list(self.collector.latest_alerts)),
            _calibration(self.collector.joiner.figures(PURCHASE)),
        ]
        return Group(*self._fitting(parts))

    def _fitting(self, parts: list[RenderableType]) -> list[RenderableType]:
        """As many parts as the terminal has lines for; the first ones matter most."""
        room = self._console.height - 1
        fitting: list[RenderableType] = []
        for part in parts:
            room -= len(self._console.render_lines(part, pad=False))
            if room >= 0 or len(fitting) < _AT_LEAST:
                fitting.append(part)
        return fitting

    def _counts(self, collector: Collector, report: Report) -> RenderableType:
        consumed = collector.total("consumed")
        now = time.monotonic()
        if self._last is None or now - self._last[0] >= _REFRESH_S:
            if self._last is not None:
                self._rate = (consumed - self._last[1]) / (now - self._last[0])
            self._last = (now, consumed)
        alerts = collector.alerts
        grid = Table.grid(padding=(0, 2))
        for name, text in {
            "sent": f"{report.sent:,} (lag {report.sent - consumed:,}, {self._rate:,.0f}/s)",
            **{name: f"{collector.total(name):,}" for name in COUNTERS},
            "predictions": f"{collector.total('predictions'):,}",
            "live alerts": f"{alerts['raised']:,} raised, {alerts['escalated']:,} escalated,"
            f" {alerts['resolved']:,} resolved",
            "users": f"{collector.total('users'):,}",
        }.items():
            grid.add_row(Text(name, style="bold"), text)
        return Panel(grid, title="worker", title_align="left")


def _beside(left: RenderableType, right: RenderableType) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(left, right)
    return grid


def _header(name: str, elapsed: str, plan: Plan, report: Report) -> RenderableType:
    now = report.last_time or plan.since
    done = (now - plan.since) / max(plan.until - plan.since, 1)
    row = Table.grid(padding=(0, 2))
    row.add_row(
        Text(name, style="bold cyan"),
        moment(now),
        ProgressBar(total=1.0, completed=min(max(done, 0.0), 1.0), width=2 * _BAR),
        elapsed,
        Text(plan.file.name, style="dim"),
    )
    return row


def _models(collector: Collector) -> RenderableType:
    table = Table("model", "live predictions", "validation AUC", box=None)
    for version, model in collector.models.items():
        serving = version in collector.serving
        table.add_row(
            Text(version, style="bold" if serving else ""),
            f"{collector.live_predictions[version]:,}",
            ratio(model.metrics.get(f"{PURCHASE}.roc_auc")),
        )
    return Panel(table, title="models, the one in use bold", title_align="left")


def _figures(collector: Collector) -> RenderableType:
    joiner = collector.joiner
    table = Table(
        "target",
        "model",
        "matured",
        "came true",
        "AUC",
        "recency AUC",
        "log-loss",
        "of base rate",
        "ECE",
        box=None,
    )
    for target in (PURCHASE, CHURN):
        versions = joiner.versions(target)
        for version in [None, *(versions if len(versions) > 1 else [])]:
            found = joiner.figures(target, version)
            if found is not None:
                table.add_row(*_row(target if version is None else "", version, found))
            if found is not None and version is None:
                for population, figures in found.populations.items():
                    table.add_row(*_population_row(population, figures))
    alerts = joiner.alerts()
    precision = "-" if alerts.precision is None else f"{alerts.precision:.1%}"
    line = (
        f"churn alerts: {precision} right ({alerts.right:,} right, {alerts.wrong:,} wrong,"
        f" {alerts.unknown:,} not known yet)"
    )
    body = Group(table, Text(line)) if table.row_count else Text("no label has matured yet")
    return Panel(body, title="were the scores right? live events only", title_align="left")


def _row(target: str, version: str | None, found: Figures) -> list[RenderableType]:
    better = (found.auc or 0) > (found.recency_auc or 1)
    return [
        target,
        Text(version or "all"),
        f"{found.total:,}",
        f"{found.base_rate:.1%}",
        Text(ratio(found.auc), style="bold green" if better else "bold"),
        ratio(found.recency_auc),
        ratio(found.log_loss),
        ratio(found.base_log_loss),
        ratio(found.ece),
    ]


def _population_row(population: str, found: PopulationFigures) -> list[RenderableType]:
    """Predictions at events, or at timers: each user counts once."""
    return [
        "",
        Text(f"at {population}s"),
        f"{found.matured:,}",
        f"{found.base_rate:.1%}",
        ratio(found.auc),
        "",
        ratio(found.log_loss),
        ratio(found.base_log_loss),
        f"{ratio(found.ece)} (chance {ratio(found.ece_chance)})",
    ]


def _calibration(found: Figures | None) -> RenderableType:
    table = Table("purchase said", "came true", "", "predictions", box=None)
    for row in found.calibration if found else ():
        bar = Text("█" * round(row.observed * _BAR), style="green")
        said = round(row.predicted * _BAR)
        bar.pad_right(max(_BAR - len(bar), 0))
        bar.stylize("reverse", min(said, _BAR - 1), min(said, _BAR - 1) + 1)
        table.add_row(f"{row.predicted:.1%}", f"{row.observed:.1%}", bar, f"{row.count:,}")
    title = "calibration: the mark is what was said, the bar what came true"
    return Panel(table, title=title, title_align="left") if found else Group()


def _latest_predictions(predictions: list[Prediction], width: int) -> RenderableType:
    view = VIEWS["predictions"]
    rows = [tuple(map(printable, view.cells(each))) for each in predictions[-_LATEST:]]
    lines = fitting_lines(view.columns, rows, width - _FRAME, _ALL)
    title = "latest predictions, for `intentstream explain PREDICTION_ID`"
    return Panel(Text("\n".join(lines)), title=title, title_align="left")


def _latest_alerts(alerts: list[ChurnAlert]) -> RenderableType:
    table = Table(
        "decided", "user", "state", "risk", "inactivity", "usual gap", "at risk", box=None
    )
    for alert in alerts[-_LATEST:]:
        table.add_row(
            moment(alert.event_time),
            Text(alert.user_id),
            alert.state,
            f"{alert.risk:.1%}",
            duration(alert.silence_ms),
            duration(alert.expected_gap_ms),
            f"{alert.value_at_risk:,.0f}",
        )
    return Panel(table, title="latest churn alerts", title_align="left")
