"""Results -> messages: predictions, alerts with their reasons, late events, dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import xxhash

from models.features import PROFILE_FEATURES
from models.history import AMOUNT_UNIT
from schemas.codec import encode
from schemas.outputs import (
    AlertReason,
    Arm,
    ChurnAlert,
    Prediction,
    Source,
    TargetScore,
    alert_id,
    dead_letter,
    late_event,
    prediction_id,
)
from stream.churn import AlertDraft, churn_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.features import F32
    from models.history import I64
    from schemas.errors import InvalidEvent
    from stream.hidden import ScorerLike
    from stream.ingest import Record
    from stream.state import UserTable

Message = tuple[bytes | None, bytes]

REASONS: Final = 3
_DIGITS: Final = 7
_ARMS: Final = 10_000


class Emitter:
    """Builds the messages of one partition."""

    def __init__(self, topic: str, partition: int, holdout_share: float) -> None:
        """``topic`` and ``partition`` of the source."""
        self._topic = topic
        self._partition = partition
        self._holdout = round(holdout_share * _ARMS)

    def source(self, offset: int) -> Source:
        """Where a record lies."""
        return Source(self._topic, self._partition, offset)

    def predictions(
        self,
        keys: Sequence[bytes],
        offsets: I64,
        event_times: I64,
        state_times: I64,
        probabilities_NK: F32,
        scorer: ScorerLike,
        *,
        stale: bool = False,
    ) -> list[Message]:
        """One prediction per row; ``keys`` are user ids in UTF-8."""
        horizons = [(target.name, target.horizon_ms) for target in scorer.targets]
        rounded = np.round(probabilities_NK.astype(np.float64), _DIGITS).tolist()
        version, features, cold = scorer.version, scorer.feature_version, scorer.cold_start
        out: list[Message] = []
        for key, offset, event_time, state_time, scores in zip(
            keys, offsets.tolist(), event_times.tolist(), state_times.tolist(), rounded, strict=True
        ):
            prediction = Prediction(
                prediction_id=prediction_id(version, self._topic, self._partition, offset),
                user_id=key.decode(),
                targets={
                    name: TargetScore(score, horizon)
                    for (name, horizon), score in zip(horizons, scores, strict=True)
                },
                model_version=version,
                feature_version=features,
                state_time=state_time,
                event_time=event_time,
                source=self.source(offset),
                cold_start=cold,
                stale=stale,
            )
            out.append((key, encode(prediction)))
        return out

    def alerts(
        self, drafts: list[AlertDraft], table: UserTable, scorer: ScorerLike
    ) -> list[Message]:
        """One alert message per draft; must be called while the drafts' rows are valid."""
        return [self._alert(draft, table, scorer) for draft in drafts]

    def _alert(self, draft: AlertDraft, table: UserTable, scorer: ScorerLike) -> Message:
        user = table.user_id(draft.row)
        closing = draft.transition == "resolved"
        alert = ChurnAlert(
            alert_id=alert_id(user, draft.transition, draft.now),
            episode=alert_id(user, "raised", draft.raised_at),
            user_id=user,
            state=draft.transition,
            risk=round(draft.risk, _DIGITS),
            silence_ms=max(draft.silence, 0),
            expected_gap_ms=draft.expected_gap,
            reasons=[] if closing else _reasons(draft, scorer),
            value_at_risk=_value_at_risk(draft, scorer),
            arm=self.arm(user),
            cause=draft.cause,
            model_version=scorer.version,
            event_time=draft.now,
            source=self.source(draft.offset),
        )
        return user.encode(), encode(alert)

    def arm(self, user: str) -> Arm:
        """Holdout or treatment: by hash, so that a user stays in one arm for good."""
        share = xxhash.xxh3_64_intdigest(f"holdout:{user}".encode()) % _ARMS
        return "holdout" if share < self._holdout else "treatment"

    def late(self, record: Record, event_id: str, event_time: int, late_by: int) -> Message:
        """A late event with its original bytes."""
        key = record.key or b""
        where = self.source(record.offset)
        value = record.value or b""
        message = late_event(where, key.decode(), event_id, event_time, max(late_by, 0), value)
        return key, encode(message)

    def dead(self, record: Record, cause: InvalidEvent) -> Message:
        """A refused record with its original bytes and the reason."""
        letter = dead_letter(
            self.source(record.offset), record.key, record.value, cause, record.timestamp
        )
        return record.key, encode(letter)


def _reasons(draft: AlertDraft, scorer: ScorerLike) -> list[AlertReason]:
    """Feature ablation: how much lower the risk would be with each feature at its typical value."""
    column = churn_column(scorer)
    count = len(PROFILE_FEATURES)
    ablated_BP = np.tile(draft.profile, (count, 1))
    ablated_BP[np.arange(count), np.arange(count)] = scorer.reference_profile
    hidden = np.tile(draft.hidden, (count, 1))
    change = draft.risk - scorer.probabilities(hidden, ablated_BP)[:, column].astype(np.float64)
    strongest: NDArray[np.intp] = np.argsort(-np.abs(change), kind="stable")[:REASONS]
    return [
        AlertReason(PROFILE_FEATURES[i], round(float(change[i]), _DIGITS))
        for i in strongest.tolist()
        if change[i]
    ]


def _value_at_risk(draft: AlertDraft, scorer: ScorerLike) -> float:
    """Spend expected within the churn horizon at the user's own rhythm, times the risk."""
    column = churn_column(scorer)
    horizon = 0 if column is None else scorer.targets[column].horizon_ms
    orders = horizon / max(draft.expected_gap, 1)
    return round(draft.order_value / AMOUNT_UNIT * orders * draft.risk, 4)
