"""Predictions, alerts and events of a partition for tests of the joiners, by days."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from models.targets import shop_targets
from schemas.events import EventType
from schemas.outputs import (
    ChurnAlert,
    NextCategory,
    NextItem,
    Prediction,
    Source,
    TargetScore,
    alert_id,
)
from stream.outcomes.joiner import OutcomeJoiner
from stream.outcomes.rules import OutcomeRules

DAY = 86_400_000
T0 = 1_600_000_000_000
PURCHASE_DAYS = 7
CHURN_DAYS = 28


TARGETS = shop_targets(
    EventType.PURCHASE,
    PURCHASE_DAYS * DAY,
    CHURN_DAYS * DAY,
    cart_horizon_ms=DAY,
    favourite_horizon_ms=2 * DAY,
)


def rules(**changes) -> OutcomeRules:
    chosen = {"targets": TARGETS[:2], "churn_horizon_ms": CHURN_DAYS * DAY} | changes
    return OutcomeRules(**chosen)


def at(days: float) -> int:
    return T0 + round(days * DAY)


def prediction(user: str, days: float, p: float = 0.5, **changes) -> Prediction:
    """With `cart` or `favourite`, a probability, the model has that target too."""
    version = changes.get("version", "m1")
    offset = changes.get("offset", 0)
    return Prediction(
        prediction_id=f"{version}:events:{changes.get('partition', 0)}:{offset}",
        user_id=user,
        targets={
            "purchase": TargetScore(p, PURCHASE_DAYS * DAY),
            "churn": TargetScore(1 - p, CHURN_DAYS * DAY),
        }
        | {
            target.name: TargetScore(changes[target.name], target.horizon_ms)
            for target in TARGETS[2:]
            if target.name in changes
        },
        model_version=version,
        feature_version="1",
        state_time=at(days),
        event_time=at(days),
        source=Source("events", changes.get("partition", 0), offset),
    )


def ranking(
    user: str, time: int, categories: str | None = None, items: str | None = None, **changes
) -> Prediction:
    """A prediction of a time in ms that ranks categories and items of one letter each."""
    return msgspec.structs.replace(
        prediction(user, 0, **changes),
        state_time=time,
        event_time=changes.get("event_time", time),
        next_categories=_listed(NextCategory, categories),
        next_items=_listed(NextItem, items),
    )


def _listed(entry, names: str | None):
    return UNSET if names is None else [entry(name, 0.1) for name in names]


def raised(user: str, days: float, state: str = "raised", **changes) -> ChurnAlert:
    return ChurnAlert(
        alert_id=alert_id(user, state, at(days)),
        episode=alert_id(user, "raised", at(days)),
        user_id=user,
        state=state,
        risk=0.8,
        silence_ms=0,
        expected_gap_ms=DAY,
        reasons=[],
        value_at_risk=0.0,
        arm="treatment",
        cause="silence",
        model_version="m1",
        event_time=at(days),
        source=Source("events", 0, 0),
        **changes,
    )


def buy(joiner: OutcomeJoiner, user: str, days: float, partition: int = 0) -> None:
    joiner.event(user, at(days), EventType.PURCHASE, partition)


def pass_time(joiner: OutcomeJoiner, days: float, partition: int = 0) -> None:
    """An event of someone else, and its prediction, move the clock."""
    joiner.event("clock", at(days), EventType.VIEW, partition)
    joiner.prediction(prediction("clock", days, partition=partition))
