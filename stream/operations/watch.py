"""What is on an output topic, as table rows and as JSON lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from msgspec import UNSET, UnsetType

from schemas.codec import decode
from schemas.control import ModelPublished
from schemas.errors import InvalidMessage
from schemas.outputs import ChurnAlert, Prediction
from schemas.refused import DeadLetter
from stream.config.durations import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import ConsumerRecord

    from stream.config.settings import TopicSettings

__all__ = ["VIEWS", "View", "duration", "moment", "printable", "table_row", "to_json"]

_SHOWN_BYTES: Final = 60


@dataclass(frozen=True)
class View:
    """How one kind of message is shown."""

    topic: str
    """Field of the topic's name in `TopicSettings`."""
    message: type[msgspec.Struct]
    columns: tuple[str, ...]
    cells: Callable[[Any], tuple[str, ...]]
    """Message -> one text per column."""
    from_beginning: bool = False
    """A topic of state is of interest from its beginning."""

    def topic_name(self, topics: TopicSettings) -> str:
        """Name of the topic."""
        return cast("str", getattr(topics, self.topic))


def moment(ms: int) -> str:
    """A time as "2011-06-01 08:30:00", UTC."""
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return str(ms)


def duration(ms: int) -> str:
    """A duration in its largest unit, such as "3.5d"."""
    for unit, size in (("d", DAY_MS), ("h", HOUR_MS), ("m", MINUTE_MS), ("s", SECOND_MS)):
        if ms >= size:
            return f"{ms / size:.1f}{unit}"
    return f"{ms}ms"


def table_row(view: View, record: ConsumerRecord) -> tuple[str, ...] | None:
    """The cells of a record, safe to print; None for a tombstone."""
    if record.value is None:
        return None
    try:
        cells = view.cells(decode(view.message, record.value))
    except InvalidMessage as error:
        where = f"{record.topic}/{record.partition}/{record.offset}"
        cells = (f"unreadable: {where}", str(error), *("" for _ in view.columns[2:]))
    return tuple(map(printable, cells))


def to_json(record: ConsumerRecord) -> str | None:
    """The record's value as one line; None for a tombstone, base64 where it is no JSON."""
    if record.value is None:
        return None
    try:
        return msgspec.json.encode(msgspec.json.decode(record.value)).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.encode({"unreadable": record.value}).decode()


def printable(text: str) -> str:
    """Without control characters: anyone may send them in an event, and a terminal obeys."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _money(amount: float, currency: str | UnsetType) -> str:
    return f"{amount:,.2f}" if currency is UNSET else f"{amount:,.2f} {currency}"


def _prediction(prediction: Prediction) -> tuple[str, ...]:
    scores = [
        f"{name} {score.probability:.1%} in {duration(score.horizon_ms)}"
        for name, score in prediction.targets.items()
    ]
    if prediction.expected_wait_ms is not UNSET:
        scores.append(f"next purchase in {duration(prediction.expected_wait_ms)}")
    if prediction.expected_spend is not None:
        scores.append(f"spends {_money(prediction.expected_spend, prediction.currency)}")
    if prediction.next_categories is not UNSET and prediction.next_categories:
        first = prediction.next_categories[0]
        scores.append(f"next {first.category_id} {first.probability:.1%}")
    if prediction.next_items is not UNSET and prediction.next_items:
        item = prediction.next_items[0]
        scores.append(f"next {item.item_id} {item.probability:.1%}")
    marks = ("cold start" * prediction.cold_start, "stale" * prediction.stale)
    return (
        moment(prediction.event_time),
        prediction.user_id,
        ", ".join(scores),
        " ".join((prediction.model_version, *filter(None, marks))),
        prediction.prediction_id,
    )


def _alert(alert: ChurnAlert) -> tuple[str, ...]:
    reasons = ", ".join(f"{reason.feature} {reason.change:+.2f}" for reason in alert.reasons)
    return (
        moment(alert.event_time),
        alert.user_id,
        alert.state,
        f"{alert.risk:.1%}",
        duration(alert.silence_ms),
        duration(alert.expected_gap_ms),
        _money(alert.value_at_risk, alert.currency),
        alert.arm,
        alert.cause,
        reasons,
    )


def _dead_letter(letter: DeadLetter) -> tuple[str, ...]:
    source = letter.source
    start = (letter.value or b"")[:_SHOWN_BYTES].decode(errors="replace")
    return (
        f"{source.topic}/{source.partition}/{source.offset}",
        letter.reason.value,
        letter.field or "",
        letter.detail,
        start,
    )


def _model(model: ModelPublished) -> tuple[str, ...]:
    wanted = [name for name in model.metrics if name.endswith((".roc_auc", ".log_loss"))]
    return (
        moment(model.published_at),
        model.version,
        model.architecture,
        model.rollout,
        ", ".join(f"{name} {model.metrics[name]:.4f}" for name in wanted),
        model.digest[:12],
    )


VIEWS: Final[dict[str, View]] = {
    "predictions": View(
        "propensity",
        Prediction,
        ("event time", "user", "scores", "model", "prediction id"),
        _prediction,
    ),
    "alerts": View(
        "churn",
        ChurnAlert,
        (
            "decided at",
            "user",
            "state",
            "risk",
            "inactivity",
            "usual gap",
            "value at risk",
            "arm",
            "cause",
            "reasons",
        ),
        _alert,
    ),
    "dead-letter": View(
        "dead_letter", DeadLetter, ("where", "reason", "field", "detail", "value"), _dead_letter
    ),
    "models": View(
        "models",
        ModelPublished,
        ("published at", "version", "architecture", "rollout", "metrics", "digest"),
        _model,
        from_beginning=True,
    ),
}
"""Name on the command line -> view."""
