"""How good churn alerts are: `python -m benchmarks.alert_quality`, without a broker.

A shop's log goes through the real trainer and the real pipeline as in the demo: a first part is
learnt from, models trained on more of it take over while the rest is scored, on the event clock.
The shops are UCI Online Retail and a simulated one; the alerts are compared with what the users did
afterwards, and with the rule "no event for so long" at the same number of alerts.

Models are kept in `--folder` and used again: alerts of two versions of the engine can be compared
with the same models.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import torch
import typer

from models.errors import TrainingError
from models.evaluation.leaver_rules import DAY, Times
from models.serving.manifest import read_manifest
from models.serving.registry import Registry
from models.serving.scorer import Scorer
from models.targets import CHURN
from schemas.codec import decode_event
from schemas.events import EventType
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.config.targets import churn_horizon_of, targets_of
from stream.demo.alert_figures import (
    Period,
    Raised,
    as_many,
    as_precise,
    orders_of,
    quality,
    to_json,
)
from stream.demo.feed import Feed
from stream.demo.plan import Plan, Thresholds, plan_bundled, scaled
from stream.learning.sources import FromFiles
from stream.learning.trainer import run_round
from stream.replay.report import Report
from stream.simulate import Faults, deliver, simulate
from stream.simulate.plan import LEAVERS
from stream.simulate.wire import write_lines
from stream.testing import PipelineDriver

REFRESHES: Final = 2
"""As in a demo of two minutes."""
_THRESHOLDS: Final = frozenset({"raise_at", "escalate_at", "resolve_at"})
SHOPS: Final = ("online-retail", "simulated")


@dataclass(frozen=True)
class Replayed:
    """What the pipeline made of a shop."""

    alerts: list[Raised]
    treated: list[int]
    """When those of the treatment arm were raised, ms."""
    shop: dict[str, Times]
    firings: int
    """Evaluations of users by timers."""
    seconds: float


def plan_of(shop: str, folder: Path) -> Plan:
    """The demo's plan of a shop; a simulated one is written first."""
    if shop == "online-retail":
        return plan_bundled()
    path = folder / "events.jsonl"
    if not path.exists():
        write_lines(deliver(simulate(LEAVERS), Faults()), path, Report())
    return scaled(path, "jsonl", LEAVERS.start, LEAVERS.end)


def train(plan: Plan, settings: Settings) -> list[str]:
    """Versions of the demo's models in their order; "" where the gate refused one."""
    kept = settings.data_dir / "versions.json"
    if kept.exists():
        return list(json.loads(kept.read_text(encoding="utf-8")))
    source, versions = FromFiles((plan.file,), plan.format), []
    for until in (plan.cut, *plan.milestones(REFRESHES)[:REFRESHES]):
        try:
            trained = run_round(settings, source, until=until - 1, device="cpu", announced=False)
            versions.append(trained.manifest.version)
        except TrainingError as error:
            typer.echo(f"refused: {error}", err=True)
            versions.append("")
    kept.write_text(json.dumps(versions), encoding="utf-8")
    return versions


def replay(plan: Plan, settings: Settings, versions: list[str]) -> Replayed:
    """Score the whole log, with each model from the moment on at which the demo has it."""
    registry = Registry(settings.models_dir)
    scorers = [Scorer.load(registry.path(version), "cpu") for version in versions if version]
    driver = PipelineDriver(scorers[0], settings)
    firings = _counted(driver)
    milestones = plan.milestones(REFRESHES)
    turns = [milestones[1], *milestones[2:]]
    feed, times, kinds = Feed(plan, Report()), {}, {}
    begun = time.monotonic()

    def rows(until: int) -> Iterable[tuple[bytes | None, bytes | None, int]]:
        for row in feed.before(until):
            event = decode_event(row.value)
            times.setdefault(event.user_id, []).append(event.event_time)
            kinds.setdefault(event.user_id, []).append(event.code)
            yield row.key, row.value, row.time

    for number, until in enumerate(turns):
        if number:
            driver.pipeline.replace_scorer(scorers[min(number, len(scorers) - 1)])
        driver.pipe_raw(rows(until))
    shop = {user: _times(np.array(times[user]), np.array(kinds[user]), settings) for user in times}
    treated = [
        alert.event_time
        for alert in driver.alerts()
        if alert.state == "raised" and alert.arm == "treatment"
    ]
    return Replayed(_raised(driver), treated, shop, firings[0], time.monotonic() - begun)


def _counted(driver: PipelineDriver) -> list[int]:
    """A number that grows by each user that a timer looks at."""
    watch, count = driver.pipeline._scoring._watch, [0]  # noqa: SLF001
    evaluate = watch.after_silence

    def counting(records: Any, rows: Any, *others: Any) -> Any:
        count[0] += len(rows)
        return evaluate(records, rows, *others)

    watch.after_silence = counting  # type: ignore[method-assign]
    return count


def _times(times: Any, kinds: Any, settings: Settings) -> Times:
    purchases = times[kinds == EventType.PURCHASE.value]
    return Times(times, orders_of(purchases, settings.state.session_gap_ms))


def _raised(driver: PipelineDriver) -> list[Raised]:
    """The alerts that were raised, with when each was closed."""
    closed = {
        alert.episode: alert.event_time
        for alert in driver.alerts()
        if alert.state in {"resolved", "retracted"}
    }
    return [
        Raised(
            alert.user_id,
            alert.event_time,
            *([closed[alert.episode]] if alert.episode in closed else []),
            cause=alert.cause,
        )
        for alert in driver.alerts()
        if alert.state == "raised"
    ]


def measure(
    shop: str, folder: Path, changes: dict[str, Any], learning: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train or find the models of a shop, replay it and compare."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = plan_of(shop, folder)
    tree = plan.overrides()
    tree |= {"data_dir": str(folder), "models_dir": str(folder / "models")}
    tree["train"] |= learning or {}
    tree["train"] = {name: value for name, value in tree["train"].items() if value != "unset"}
    tree["churn"] |= {name: value for name, value in changes.items() if name not in _THRESHOLDS}
    settings = load_settings(None, tree)
    versions = train(plan, settings)
    first = Registry(settings.models_dir).path(next(filter(None, versions)))
    manifest = json.loads((first / "manifest.json").read_text(encoding="utf-8"))
    rate = float(manifest["metrics"][f"{CHURN}.base_rate"])
    churn = settings.churn.model_dump() | asdict(Thresholds.of(rate)) | changes
    settings = settings.model_copy(update={"churn": type(settings.churn)(**churn)})
    replayed = replay(plan, settings, versions)
    own = next((t for t in targets_of(settings) if t.name == CHURN and t.gaps), None)
    horizon = churn_horizon_of(settings)
    period = Period(plan.cut, plan.until, horizon, plan.min_orders, own)
    found = quality(replayed.alerts, replayed.shop, period)
    inactivity, alerts = as_many(replayed.shop, period, found.raised)
    precise = as_precise(replayed.shop, period, found.precision or 0.0)
    return {
        "shop": shop,
        "horizon_days": horizon / DAY,
        "users": len(replayed.shop),
        "alerts": to_json(found),
        "treated_per_day": _per_day(replayed.treated, plan.cut, plan.until),
        "fixed_rule": to_json(quality(alerts, replayed.shop, period)),
        "fixed_rule_days": round(inactivity / DAY, 1),
        "as_precise": None
        if precise is None
        else to_json(quality(precise[1], replayed.shop, period)),
        "as_precise_days": None if precise is None else precise[0] / DAY,
        "learnt": [_learnt(settings, version) for version in versions if version],
        "timer_evaluations": replayed.firings,
        "seconds": round(replayed.seconds, 1),
    }


def _per_day(treated: list[int], since: int, until: int) -> dict[str, Any]:
    """Alerts a day of the treatment arm after the first model: over all days, and week by week."""
    days = (until - since) // DAY
    times = np.array(treated, np.int64)
    times = times[(times >= since) & (times < since + days * DAY)]
    each = np.bincount((times - since) // DAY, minlength=days)
    weeks = each[: days // 7 * 7].reshape(-1, 7).mean(axis=1)
    return {
        "mean": round(float(each.mean()), 2),
        "after_a_week": round(float(each[7:].mean()), 2),
        "p50": float(np.quantile(each, 0.5)),
        "p95": float(np.quantile(each, 0.95)),
        "most": int(each.max()),
        "weeks": [round(float(week), 1) for week in weeks],
    }


def _learnt(settings: Settings, version: str) -> Any:
    """From which risk on a model says that alerts have the wanted precision, and by what."""
    found = read_manifest(Registry(settings.models_dir).path(version)).raise_at
    return None if found is None else msgspec.to_builtins(found)


def main(
    shops: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(SHOPS)}.")] = None,
    folder: Annotated[Path, typer.Option(help="Keeps events and models.")] = Path(
        "var/alert-quality"
    ),
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Of section churn.")
    ] = None,
    learn: Annotated[
        list[str] | None,
        typer.Option(
            "--train", metavar="NAME=VALUE", help="Of section train; needs a folder of its own."
        ),
    ] = None,
) -> None:
    """Print one JSON document per shop."""
    torch.set_num_threads(1)
    changes = dict(text.split("=", 1) for text in change or [])
    learning = dict(text.split("=", 1) for text in learn or [])
    for shop in shops or SHOPS:
        typer.echo(json.dumps(measure(shop, folder / shop, changes, learning)))


if __name__ == "__main__":
    typer.run(main)
