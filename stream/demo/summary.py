"""The figures of a run, and whether they add up."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from models.targets import CHURN, PURCHASE
from stream.config.durations import DAY_MS
from stream.demo.alert_figures import Period, as_many, quality, to_json
from stream.demo.collector import COUNTERS

if TYPE_CHECKING:
    from stream.demo.collector import Collector
    from stream.demo.plan import Plan
    from stream.outcomes.window import Figures
    from stream.replay.report import Report

__all__ = ["problems", "summary"]


def summary(
    plan: Plan,
    collector: Collector,
    report: Report,
    live_seconds: float,
    seconds: float,
    refused: list[str],
) -> dict[str, Any]:
    """Plain values, ready for a JSON encoder.

    The figures at the top are of the purchase target, all models together, live events only;
    `targets` has both targets, all models and each.
    """
    joiner = collector.joiner
    alerts = joiner.alerts()
    every_alert = collector.alerts + collector.history_alerts
    head = _figures(joiner.figures(PURCHASE))
    head.pop("calibration", None)
    return {
        "data": plan.file.name,
        "format": plan.format,
        "seconds": round(seconds, 1),
        "live_seconds": live_seconds,
        "sent": report.sent,
        **{name: collector.total(name) for name in COUNTERS},
        "predictions": collector.total("predictions"),
        "predictions_read": collector.predictions,
        "predictions_live": sum(collector.live_predictions.values()),
        "alerts": collector.total("alerts"),
        "alerts_raised": every_alert["raised"],
        "alerts_escalated": every_alert["escalated"],
        "alerts_resolved": every_alert["resolved"],
        "alerts_retracted": every_alert["retracted"],
        "alerts_read": every_alert.total(),
        "alerts_live": dict(collector.alerts),
        "alerts_judged": asdict(alerts) | {"unknown": alerts.unknown},
        "alert_precision": alerts.precision,
        "alerts_and_rule": _beside_rule(plan, collector),
        "model_versions": list(collector.live_predictions),
        "models": {
            version: {"metrics": model.metrics, "predictions": collector.live_predictions[version]}
            for version, model in collector.models.items()
        },
        "models_refused": refused,
        **head,
        "targets": {
            target: {"all": _figures(joiner.figures(target))}
            | {v: _figures(joiner.figures(target, v)) for v in joiner.versions(target)}
            for target in (PURCHASE, CHURN)
        },
        "judged_share_of_users": joiner.sampled,
        "pending": joiner.pending,
        "users": collector.total("users"),
        "plan": {
            "cut": plan.cut,
            "since": plan.since,
            "until": plan.until,
            "purchase_horizon_days": plan.purchase_horizon / DAY_MS,
            "churn_horizon_days": plan.churn_horizon / DAY_MS,
        },
        "replay": {name: value for name, value in report.to_json().items() if name != "path"},
    }


def _beside_rule(plan: Plan, collector: Collector) -> dict[str, Any] | None:
    """The live alerts, and those of "no event for so long" as many; None without an alert.

    Both are evaluated by what the users did afterwards, with the same definition of gone.
    """
    shop = collector.shop()
    period = Period(plan.cut, plan.until, plan.churn_horizon, plan.min_orders)
    ours = quality(list(collector.raised.values()), shop, period)
    if not ours.raised:
        return None
    inactivity, alerts = as_many(shop, period, ours.raised)
    return {
        "alerts": to_json(ours),
        "rule": to_json(quality(alerts, shop, period)),
        "rule_days": round(inactivity / DAY_MS, 1),
    }


def problems(figures: dict[str, Any]) -> list[str]:
    """What does not add up, one line each."""
    parts = sum(figures[name] for name in COUNTERS[1:])
    found = []
    if figures["consumed"] != parts:
        found.append(
            f"{figures['consumed']} events consumed, but accepted + duplicate + late + invalid is"
            f" {parts}"
        )
    for done, wanted in (("consumed", "sent"), ("predictions_read", "predictions")):
        if figures[done] != figures[wanted]:
            found.append(f"{done} is {figures[done]}, and {wanted} {figures[wanted]}")
    if figures["alerts_read"] != figures["alerts"]:
        found.append(f"alerts_read is {figures['alerts_read']}, and alerts {figures['alerts']}")
    # The trainer may have refused, rightly, to publish a second one.
    if len(figures["model_versions"]) < 2 and not figures["models_refused"]:  # noqa: PLR2004
        found.append(f"only one model made predictions: {figures['model_versions']}")
    if figures["rolling_auc"] is None:
        found.append(
            f"no label of each kind has matured in the live part ({figures['matured']} labels):"
            " pass more data"
        )
    return found


def _figures(figures: Figures | None) -> dict[str, Any]:
    return {
        "matured": figures.total if figures else 0,
        "rolling_auc": figures.auc if figures else None,
        "recency_auc": figures.recency_auc if figures else None,
        "base_rate": figures.base_rate if figures else None,
        "log_loss": figures.log_loss if figures else None,
        "base_log_loss": figures.base_log_loss if figures else None,
        "ece": figures.ece if figures else None,
        "calibration": [asdict(row) for row in figures.calibration] if figures else [],
    }
