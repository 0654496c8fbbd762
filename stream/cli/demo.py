"""`intentstream demo`: real events become scores and churn alerts, and the scores are judged."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, Dates, Decimals, wanted
from stream.cli.produce import Format

if TYPE_CHECKING:
    from stream.demo.place import Place
    from stream.demo.plan import Plan
    from stream.demo.run import Options
    from stream.demo.view import View
    from stream.replay.adapter import Wanted

app = typer.Typer()

_INTERRUPTED = 130
_CONTEST = ("ours", "rule", "chance")


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Another data set. [UCI Online Retail]"),
    ] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="What the file is, as for `produce`.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Replay at most this many events of it.")
    ] = None,
    dates: Dates = None,
    decimal: Decimals = None,
    seconds: Annotated[float, typer.Option(min=5, help="How long the live part takes.")] = 120,
    headless: Annotated[
        bool, typer.Option("--headless", help="Lines instead of the live picture.")
    ] = False,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the summary here.")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Start a broker, replay a data set, train, score, alert, retrain, and judge all of it.

    The first half of the data is learnt from, the rest comes live in compressed time. Without
    --bootstrap-servers an embedded Kafka of the demo's own is started, and stopped at the end.
    With --data all horizons are scaled to the time that the file spans.
    """
    from schemas.extras import need

    need("demo", "`intentstream demo`")
    from stream.config.loading import load_settings
    from stream.demo.errors import DemoError
    from stream.demo.place import Place, locked
    from stream.demo.run import Options
    from stream.demo.summary import problems

    if (data is None) != (format_ is None):
        raise DemoError("--data and --format go together: pass both, or neither")
    # Settings, not the running local broker: the demo has one of its own.
    settings = load_settings(
        config, {"kafka": {"bootstrap_servers": bootstrap_servers}, "data_dir": data_dir}
    )
    place = Place(settings.data_dir / "demo")
    plan = _plan(data, format_, limit, wanted(dates, decimal))
    options = Options(seconds, settings.kafka.bootstrap_servers, config)
    _check_writable(json_out)
    with locked(place):
        figures = _run(plan, place, options, headless=headless or not sys.stdout.isatty())
    if json_out is not None:
        json_out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    found = problems(figures)
    if found:
        raise DemoError("the figures do not add up: " + "; ".join(found))


def _plan(data: Path | None, format_: Format | None, limit: int | None, wanted: "Wanted") -> "Plan":
    from stream.demo.plan import BUNDLED, BUNDLED_FORMAT, plan_bundled, plan_for

    if data is not None and format_ is not None:
        return plan_for(data, str(format_), limit, wanted)
    return plan_bundled() if limit is None else plan_for(BUNDLED, BUNDLED_FORMAT, limit)


def _check_writable(path: Path | None) -> None:
    from stream.demo.errors import DemoError

    if path is not None and not path.absolute().parent.is_dir():
        raise DemoError(f"--json {path}: there is no folder {path.absolute().parent}")


def _run(plan: "Plan", place: "Place", options: "Options", *, headless: bool) -> dict[str, Any]:
    from stream.demo.dashboard import Dashboard
    from stream.demo.errors import DemoError
    from stream.demo.view import View

    view: View = View() if headless else Dashboard()
    try:
        figures = asyncio.run(_interruptible(plan, place, options, view))
    except DemoError as error:
        for line in error.tail:
            typer.echo(line, err=True)
        raise
    finally:
        view.close()
    if figures is None:
        typer.echo("interrupted: everything that was started is stopped", err=True)
        raise typer.Exit(_INTERRUPTED)
    _conclude(figures, place)
    return figures


async def _interruptible(
    plan: "Plan", place: "Place", options: "Options", view: "View"
) -> dict[str, Any] | None:
    """Run the demo; None when a signal ended it."""
    from stream.demo.run import Demo

    running = asyncio.ensure_future(Demo(plan, place, options, view).run())
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt() -> None:
        # Once: impatience must not interrupt the cleaning up.
        for number in numbers:
            loop.add_signal_handler(number, int)
        running.cancel()

    for number in numbers:
        loop.add_signal_handler(number, interrupt)
    try:
        return await running
    except asyncio.CancelledError:
        return None


def _conclude(figures: dict[str, Any], place: "Place") -> None:
    def shown(name: str) -> str:
        value = figures[name]
        return "-" if value is None else f"{value:.3f}"

    typer.echo(
        f"{figures['consumed']:,} events consumed = {figures['accepted']:,} accepted"
        f" + {figures['duplicate']:,} duplicate + {figures['late']:,} late"
        f" + {figures['invalid']:,} invalid; {figures['predictions']:,} predictions"
    )
    for line in _alert_lines(figures):
        typer.echo(line)
    typer.echo(
        f"purchases: AUC {shown('rolling_auc')} against {shown('recency_auc')} of recency on"
        f" {figures['matured']:,} matured predictions of {len(figures['model_versions'])} models;"
        f" ECE {shown('ece')}"
    )
    for line in contest_lines(figures):
        typer.echo(line)
    typer.echo(f"logs and models are in {place.root}; took {figures['seconds']:.0f} s")


def contest_lines(figures: dict[str, Any]) -> list[str]:
    """The model beside the fixed-inactivity rule, one line per figure, and who wins."""
    rows = [("", "model", "fixed rule", "chance", "wins")]
    for row in figures["contest"]:
        values = ("-" if row[name] is None else f"{row[name]:.3f}" for name in _CONTEST)
        rows.append((row["name"], *values, row["winner"]))
    if len(rows) == 1:
        return []
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _alert_lines(figures: dict[str, Any]) -> list[str]:
    """Each number of alerts with what it counts."""
    parts = " + ".join(
        f"{figures[f'alerts_{state}']:,} {state}"
        for state in ("raised", "escalated", "resolved", "retracted")
    )
    judged, precision = figures["alerts_judged"], figures["alert_precision"]
    share = _share(precision)
    known = f"{judged['right']:,} right + {judged['wrong']:,} wrong"
    live = f"{judged['raised']:,} = {known} + {judged['unknown']:,} not known yet"
    lines = [
        f"alert messages of history and live part: {figures['alerts']:,} = {parts}",
        f"alerts raised in the live part: {live}; {share} of the known ones were right",
    ]
    both = figures["alerts_and_rule"]
    if both is not None:
        ours, rule = both["alerts"], both["rule"]
        lines.append(
            f"of {ours['raised']:,} raised whose outcome is known {_share(ours['precision'])} were"
            f" right, and {_share(ours['recall'])} of the lost orders were found in time; as many"
            f" alerts after {both['rule_days']} days without an event:"
            f" {_share(rule['precision'])} and {_share(rule['recall'])}"
        )
    return lines
