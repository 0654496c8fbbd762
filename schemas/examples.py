"""One example of each message, as the JSON Schemas and the AsyncAPI document show it."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.control import EraseReceipt, EraseUser, ModelPublished, WorkerStatus
from schemas.errors import Reason
from schemas.events import EVENT_TYPES, Event, Purchase
from schemas.monitoring import AlertOutcome, ModelMetrics, TargetMetrics
from schemas.outputs import AlertReason, ChurnAlert, Prediction, Source, SurvivalPoint, TargetScore
from schemas.rates import CurrencyRate
from schemas.refused import DeadLetter, LateEvent

__all__ = ["EXAMPLES"]

_TIME: Final = 1_718_000_000_000
_DAY: Final = 86_400_000
_MODEL: Final = "gru-20240610T000000"
_SOURCE: Final = Source("shop.events", 3, 1204)
_USER: Final = "customer-17"

_PURCHASE: Final = Purchase(
    event_id="order-5501-line-1",
    user_id=_USER,
    event_time=_TIME,
    session_id="session-881",
    item_id="sku-204",
    category_id="garden",
    price=24.9,
    quantity=2,
    currency="EUR",
    order_id="order-5501",
    order_discount=5.0,
    tax=7.95,
    timezone="Europe/Berlin",
)


def _event(name: str, kind: type[Event]) -> Event:
    if kind is Purchase:
        return _PURCHASE
    return kind(
        event_id=f"{name}-9920",
        user_id=_USER,
        event_time=_TIME,
        item_id=None if name == "search" else "sku-204",
        query="garden hose" if name == "search" else None,
        order_id="order-5501" if name == "refund" else None,
        price=24.9 if name == "refund" else None,
        currency="EUR" if name == "refund" else None,
    )


_MESSAGES: Final[tuple[msgspec.Struct, ...]] = (
    *(_event(name, kind) for name, kind in EVENT_TYPES.items()),
    Prediction(
        prediction_id=f"{_MODEL}:shop.events:3:1204",
        user_id=_USER,
        targets={
            "purchase": TargetScore(0.31, 7 * _DAY),
            "churn": TargetScore(0.12, 30 * _DAY),
        },
        model_version=_MODEL,
        feature_version="1",
        state_time=_TIME,
        event_time=_TIME,
        source=_SOURCE,
        expected_spend=18.4,
        expected_wait_ms=9 * _DAY,
        survival=[SurvivalPoint(7 * _DAY, 0.69), SurvivalPoint(30 * _DAY, 0.12)],
    ),
    ChurnAlert(
        alert_id=f"{_USER}:{_TIME}:raised",
        episode=f"{_USER}:{_TIME}:raised",
        user_id=_USER,
        state="raised",
        risk=0.83,
        silence_ms=41 * _DAY,
        expected_gap_ms=12 * _DAY,
        horizon_ms=30 * _DAY,
        reasons=[AlertReason("log_silence_hours", 0.4)],
        value_at_risk=57.2,
        arm="treatment",
        holdout_epoch="spring:220",
        cause="silence",
        model_version=_MODEL,
        event_time=_TIME,
        source=_SOURCE,
    ),
    DeadLetter(
        reason=Reason.MISSING_FIELD,
        source=_SOURCE,
        field="event_time",
        detail="Object missing required field `event_time`",
        key=b"customer-17",
        value=b'{"type":"view"}',
        size=15,
        timestamp=_TIME,
    ),
    LateEvent(
        user_id=_USER,
        event_id="view-9920",
        event_time=_TIME,
        late_by_ms=7_200_000,
        source=_SOURCE,
        value=b"{}",
        size=2,
    ),
    ModelPublished(
        version=_MODEL,
        digest="0f" * 32,
        uri=f"{_MODEL}/model.pt",
        architecture="gru",
        feature_version="1",
        metrics={"roc_auc": 0.75},
        published_at=_TIME,
        rollout="canary",
        canary_share=0.1,
    ),
    EraseUser(request_id="ticket-88", user_id=_USER, requested_at=_TIME, requested_by="support"),
    EraseReceipt(
        request_id="ticket-88",
        user_id=_USER,
        erased_at=_TIME,
        removed={"state": 1, "timers": 1},
        source=Source("users.erase", 3, 7),
        before=_SOURCE,
        remaining={"shop.events": _TIME + 7 * _DAY},
    ),
    WorkerStatus(
        worker_id="worker-1",
        partition=3,
        offset=1205,
        high_water=1210,
        watermark=_TIME - 600_000,
        consumed=1205,
        accepted=1190,
        duplicate=9,
        late=4,
        invalid=2,
        predictions=1190,
        alerts=11,
        model_version=_MODEL,
        users=208,
        updated_at=_TIME,
        timers_due_at=_TIME + _DAY,
    ),
    ModelMetrics(
        model_version=_MODEL,
        targets={
            "purchase": TargetMetrics(
                total=5200,
                matured=5000,
                base_rate=0.2,
                log_loss=0.41,
                base_log_loss=0.5,
                ece=0.02,
                auc=0.81,
                recency_auc=0.72,
                lift=2.9,
            )
        },
        updated_at=_TIME,
        event_time=_TIME - 600_000,
        rollout="champion",
    ),
    AlertOutcome(
        alert_id=f"{_USER}:{_TIME}:raised",
        user_id=_USER,
        outcome="saved",
        arm="treatment",
        model_version=_MODEL,
        raised_at=_TIME,
        horizon_ms=30 * _DAY,
        returned_at=_TIME + 4 * _DAY,
    ),
    CurrencyRate(currency="JPY", to="EUR", date="2024-06-10", rate=0.0059, source="ECB"),
)

EXAMPLES: Final[dict[type[msgspec.Struct], msgspec.Struct]] = {
    type(message): message for message in _MESSAGES
}
"""Message type -> an example of it."""
