"""Results -> messages: predictions, alerts with their reasons, late events, dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import xxhash

from models.features import PROFILE_FEATURES
from models.history import AMOUNT_UNIT
from schemas.codec import decode_event, encode
from schemas.control import EraseReceipt, EraseUser
from schemas.outputs import (
    AlertReason,
    Arm,
    ChurnAlert,
    DeadLetter,
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
    from schemas.errors import InvalidMessage
    from schemas.pseudonym import Pseudonyms
    from stream.erasure import Erasure
    from stream.hidden import ScorerLike
    from stream.records import Record
    from stream.state import UserTable

Message = tuple[bytes | None, bytes]

REASONS: Final = 3
_DIGITS: Final = 7
_ARMS: Final = 10_000


class Emitter:
    """Builds the messages of one partition."""

    def __init__(
        self,
        topic: str,
        partition: int,
        holdout_share: float,
        pseudonyms: Pseudonyms | None = None,
        erase_topic: str = "",
    ) -> None:
        """``topic`` and ``partition`` of the source; ``erase_topic`` has the requests.

        With ``pseudonyms`` no message holds a user's id: copies of late events are rewritten, and
        of refused records, which may hold anything, nothing is copied.
        """
        self._topic = topic
        self._partition = partition
        self._holdout = round(holdout_share * _ARMS)
        self._pseudonyms = pseudonyms
        self._erase_topic = erase_topic

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
        automated: NDArray[np.bool_],
        cold: NDArray[np.bool_],
        stale: bool,
    ) -> list[Message]:
        """One prediction per row; ``keys`` are user ids in UTF-8, ``cold`` is of users too new."""
        horizons = [(target.name, target.horizon_ms) for target in scorer.targets]
        rounded = np.round(probabilities_NK.astype(np.float64), _DIGITS).tolist()
        version, features = scorer.version, scorer.feature_version
        out: list[Message] = []
        for key, offset, event_time, state_time, is_automated, is_cold, scores in zip(
            keys,
            offsets.tolist(),
            event_times.tolist(),
            state_times.tolist(),
            automated.tolist(),
            (cold | scorer.cold_start).tolist(),
            rounded,
            strict=True,
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
                cold_start=is_cold,
                stale=stale,
                automated=is_automated,
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
        """A late event with its original bytes, or rewritten with the user's pseudonym."""
        key, value = record.key or b"", record.value or b""
        where = self.source(record.offset)
        if self._pseudonyms is not None:
            event = self._pseudonyms.event(decode_event(value, len(value)))
            key, value = event.user_id.encode(), encode(event)
        message = late_event(where, key.decode(), event_id, event_time, max(late_by, 0), value)
        return key, encode(message)

    def receipt(
        self,
        erasure: Erasure,
        request: EraseUser,
        user_id: str,
        removed: dict[str, int],
        before: int,
        now: int,
    ) -> Message:
        """What was removed of a user, up to source offset ``before``, and where copies remain."""
        kept = erasure.kept_ms.items()
        receipt = EraseReceipt(
            request_id=request.request_id,
            user_id=user_id,
            erased_at=now,
            removed=removed,
            source=self._request_source(erasure),
            before=self.source(before),
            remaining={topic: None if ms is None else now + ms for topic, ms in kept},
        )
        return user_id.encode(), encode(receipt)

    def dead_request(self, erasure: Erasure, cause: InvalidMessage) -> Message:
        """A request to forget a user that cannot be carried out."""
        return self.dead(erasure.record, cause, self._request_source(erasure))

    def _request_source(self, erasure: Erasure) -> Source:
        return Source(self._erase_topic, self._partition, erasure.record.offset)

    def dead(self, record: Record, cause: InvalidMessage, source: Source | None = None) -> Message:
        """A refused record with the reason and, unless users are pseudonyms, its original bytes."""
        where = source or self.source(record.offset)
        letter = dead_letter(where, record.key, record.value, cause, record.timestamp)
        if self._pseudonyms is not None:
            letter = _withheld(letter, self._pseudonyms)
        return letter.key, encode(letter)


def _withheld(letter: DeadLetter, pseudonyms: Pseudonyms) -> DeadLetter:
    """Without the original bytes, and without what the detail quotes of them."""
    try:
        key = pseudonyms.of(letter.key.decode()).encode() if letter.key else None
    except UnicodeDecodeError:
        key = None
    return msgspec.structs.replace(
        letter,
        key=key,
        value=None if letter.value is None else b"",
        clipped=bool(letter.value),
        detail="withheld, as it may name a user: see the record at `source`",
    )


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
