"""The figures of a run, and whether they add up."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from models.evaluation.leaver_rules import AtTimers
from models.populations import EVENT, TIMER
from models.targets import CHURN, PURCHASE
from stream.config.durations import DAY_MS
from stream.demo.alert_figures import as_many, quality, to_json
from stream.demo.collector import COUNTERS
from stream.demo.live_error import Past, live_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.evaluation.leaver_rules import Times
    from stream.demo.collector import Collector
    from stream.demo.plan import Plan
    from stream.outcomes.window import Figures
    from stream.replay.report import Report

__all__ = ["contest", "problems", "summary"]


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
    shop = collector.shop()
    beside, live = _beside_rule(plan, collector, shop), _live(plan, collector, shop)
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
        "alerts_and_rule": beside,
        "live_calibration": live,
        "contest": contest(beside, live),
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


def contest(
    beside: dict[str, Any] | None, live: dict[str, dict[str, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Each figure of the demo beside that of the fixed-inactivity rule, and who wins.

    Returns:
        Rows of name, ours, rule, chance (None where it means nothing) and winner: "model", "rule"
        or "neither".
    """
    rows = [
        {"name": f"alert {name}", "ours": beside["alerts"][name], "rule": beside["rule"][name]}
        for name in ("precision", "recall")
        if beside is not None
    ]
    places = {EVENT: "at events", TIMER: "at timers"}
    errors = [
        {
            "name": f"live ECE of {target} {places[population]}",
            "ours": figures["ece"],
            "rule": figures["rule_ece"],
            "chance": figures["ece_chance"],
        }
        for target, found in live.items()
        for population, figures in found.items()
    ]
    for row, sign in (*((row, 1) for row in rows), *((row, -1) for row in errors)):
        ours, rule = (-1.0 if row[who] is None else sign * row[who] for who in ("ours", "rule"))
        row["winner"] = "model" if ours > rule else "rule" if rule > ours else "neither"
    return [{"chance": None} | row for row in (*rows, *errors)]


def _live(
    plan: Plan, collector: Collector, shop: Mapping[str, Times]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Target -> population -> calibration of the live predictions, beside the rule's."""
    churn = collector.settings.churn
    timers = AtTimers(churn.gap_factor, churn.recheck_factor, churn.min_gap_ms)
    past = Past(plan.cut, churn.min_orders, churn.prior_gap_ms, timers)
    return {
        target.name: live_errors(collector.matured, shop, target, past)
        for target in collector.rules.targets
    }


def _beside_rule(
    plan: Plan, collector: Collector, shop: Mapping[str, Times]
) -> dict[str, Any] | None:
    """The live alerts, and those of "no event for so long" as many; None without an alert.

    Both are evaluated by what the users did afterwards, with the same definition of gone.
    """
    period = plan.period()
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
