"""What a demo shows while it runs, as lines for logs and pipes; `dashboard.py` draws it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

from models.targets import PURCHASE
from stream.operations.watch import moment

if TYPE_CHECKING:
    from stream.demo.collector import Collector
    from stream.demo.plan import Plan
    from stream.outcomes.window import Figures
    from stream.replay.report import Report

__all__ = ["View", "ratio"]

_LINE_S: Final = 5.0


def ratio(value: float | None, digits: int = 3) -> str:
    """A figure between 0 and 1, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


class View:
    """Prints a line for each phase and a line of figures every few seconds."""

    every_s = _LINE_S

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.began = time.monotonic()
        self.name = "getting ready"
        self.plan: Plan | None = None
        self.collector: Collector | None = None
        self.report: Report | None = None

    def phase(self, name: str) -> None:
        """Another part of the demo begins."""
        self.name = name
        self.say(name)

    def say(self, line: str) -> None:
        """Tell one thing."""
        self._print(line)

    def show(self, plan: Plan, collector: Collector, report: Report) -> None:
        """From now on there are figures."""
        self.plan, self.collector, self.report = plan, collector, report
        days = 86_400_000
        own = f"{plan.gaps:g} of the user's own gaps, at most " if plan.gaps else ""
        self.say(
            f"{plan.file.name}: {moment(plan.since)} to {moment(plan.until)}, live from"
            f" {moment(plan.cut)} on; purchase within {plan.purchase_horizon / days:.3g} days,"
            f" churn: none within {own}{plan.churn_horizon / days:.3g} days"
        )

    async def follow(self) -> None:
        """Show the figures again and again."""
        while True:
            await asyncio.sleep(self.every_s)
            self.update()

    def update(self) -> None:
        """Show the figures as they are now."""
        if self.collector is not None and self.report is not None and self.collector.heartbeats:
            self._print(_line(self.name, self.collector, self.report))

    def close(self) -> None:
        """Nothing follows."""

    def _print(self, line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - self.began:5.1f} s] {line}\n")
        sys.stdout.flush()


def _line(name: str, collector: Collector, report: Report) -> str:
    consumed = collector.total("consumed")
    alerts = collector.alerts
    parts = [
        name,
        moment(report.last_time) if report.last_time else "-",
        f"{consumed:,} consumed, lag {report.sent - consumed:,}",
        f"{collector.total('predictions'):,} predictions",
        f"live alerts: {alerts['raised']:,} raised, {alerts['resolved']:,} resolved",
    ]
    figures: Figures | None = collector.joiner.figures(PURCHASE)
    if figures is not None:
        parts.append(
            f"{figures.total:,} matured: AUC {ratio(figures.auc)}, recency"
            f" {ratio(figures.recency_auc)}"
        )
    parts.append(", ".join(sorted(collector.serving)))
    return " | ".join(parts)
