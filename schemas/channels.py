"""The topics as a contract: what lies on each, under which key, who writes and who reads.

Addresses are the default names; a deployment may rename topics in its settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from schemas.control import EraseReceipt, EraseUser, ModelPublished, WorkerStatus
from schemas.events import EVENT_TYPES, Event
from schemas.monitoring import AlertOutcome, ModelMetrics
from schemas.outputs import ChurnAlert, Prediction
from schemas.rates import CurrencyRate
from schemas.refused import DeadLetter, LateEvent

__all__ = ["CHANNELS", "DOCUMENTS", "Action", "Channel"]

Action = Literal["receive", "send"]
"""From the engine's side: it receives what others send, and sends what others receive."""

USER_KEY: Final = "The user_id in UTF-8; murmur2 of it picks the partition, as in the Java client."


@dataclass(frozen=True)
class Channel:
    """One topic.

    Attributes:
        name: identifier in the AsyncAPI document; also the field name in the topic settings.
        address: default topic name.
        description: what the topic holds.
        messages: message structs that may lie on it.
        key: description of the record key.
        actions: what the engine does with it.
        cleanup: Kafka clean-up policy.
    """

    name: str
    address: str
    description: str
    messages: tuple[type[msgspec.Struct], ...]
    key: str
    actions: tuple[Action, ...]
    cleanup: Literal["delete", "compact"] = "delete"


CHANNELS: Final[tuple[Channel, ...]] = (
    Channel(
        "events",
        "shop.events",
        "Behaviour events of the shop.",
        tuple(EVENT_TYPES.values()),
        USER_KEY,
        ("receive",),
    ),
    Channel(
        "propensity",
        "predictions.propensity",
        "Purchase and churn propensities; read it with isolation level read_committed.",
        (Prediction,),
        USER_KEY,
        ("send",),
    ),
    Channel(
        "churn",
        "alerts.churn",
        "Churn alerts, to start marketing actions from; read it read_committed.",
        (ChurnAlert,),
        USER_KEY,
        ("send",),
    ),
    Channel(
        "late",
        "shop.events.late",
        "Valid events that came after the grace.",
        (LateEvent,),
        USER_KEY,
        ("send",),
    ),
    Channel(
        "dead_letter",
        "shop.events.dead-letter",
        "Events that could not be used, with the reason.",
        (DeadLetter,),
        "The original record key, which may be anything or absent.",
        ("send",),
    ),
    Channel(
        "models",
        "models.published",
        "Trained models, announced by the trainer and picked up by workers.",
        (ModelPublished,),
        "The model version.",
        ("send", "receive"),
        "compact",
    ),
    Channel(
        "shadow",
        "predictions.shadow",
        "Propensities of a model on trial that nobody is to act on; read it read_committed.",
        (Prediction,),
        USER_KEY,
        ("send",),
    ),
    Channel(
        "metrics",
        "models.metrics",
        "How each model's matured predictions came out, and what drifts.",
        (ModelMetrics,),
        "The model version.",
        ("send",),
        "compact",
    ),
    Channel(
        "outcomes",
        "alerts.outcomes",
        "What became of each raised churn alert: unknown at first, then its verdict.",
        (AlertOutcome,),
        USER_KEY,
        ("send",),
    ),
    Channel(
        "erase",
        "users.erase",
        "Requests to forget a user; they take their place among the user's events by the broker's"
        " time.",
        (EraseUser,),
        USER_KEY,
        ("receive",),
    ),
    Channel(
        "erased",
        "users.erased",
        "Receipts of erasure; who keeps data of users erases it on seeing one. Read it"
        " read_committed.",
        (EraseReceipt,),
        USER_KEY,
        ("send",),
    ),
    Channel(
        "rates",
        "shop.rates",
        "Rates of currencies by day, read where money.rates_topic is set.",
        (CurrencyRate,),
        "currency/to/date, as JPY/EUR/2024-06-10.",
        ("receive", "send"),
        "compact",
    ),
    Channel(
        "status",
        "intentstream.status",
        "Heartbeat of every partition.",
        (WorkerStatus,),
        "The partition number in decimal.",
        ("send",),
        "compact",
    ),
)

DOCUMENTS: Final[dict[str, Any]] = {
    "event": Event,
    "prediction": Prediction,
    "churn-alert": ChurnAlert,
    "dead-letter": DeadLetter,
    "late-event": LateEvent,
    "model-published": ModelPublished,
    "erase-user": EraseUser,
    "erase-receipt": EraseReceipt,
    "worker-status": WorkerStatus,
    "model-metrics": ModelMetrics,
    "alert-outcome": AlertOutcome,
    "currency-rate": CurrencyRate,
}
"""File stem of the JSON Schema -> message type (the events' is the tagged union)."""
