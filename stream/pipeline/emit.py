"""Results -> messages: predictions, alerts with their reasons, late events, dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from models.history import AMOUNT_UNIT
from models.inputs.features import PROFILE_FEATURES, own_horizons
from models.kernels.repeats import CONTENT
from models.populations import EVENT, TIMER
from models.serving.recalibration import recalibrated
from schemas.codec import decode_event, encode
from schemas.control import EraseReceipt, EraseUser
from schemas.errors import InvalidEvent, Reason
from schemas.outputs import (
    AlertReason,
    ChurnAlert,
    Prediction,
    PredictionReason,
    Source,
    SurvivalPoint,
    TargetScore,
    alert_id,
    prediction_id,
)
from schemas.refused import DeadLetter, dead_letter, late_event
from stream.kernels.buffers import cut, joined
from stream.kernels.predictions import (
    DIGITS,
    Pattern,
    Predictions,
    pattern_of,
    room_for,
    write_predictions,
)
from stream.pipeline.churn import AlertDraft, churn_column
from stream.pipeline.decisions import UNKNOWN
from stream.pipeline.erasure import NOTES
from stream.pipeline.packed import Packed
from stream.pipeline.ranking import spliced
from stream.pipeline.readout import Readout, readout_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.history import I64, Snapshot
    from models.inputs.features import F32
    from schemas.errors import InvalidMessage
    from schemas.pseudonym import Pseudonyms
    from stream.pipeline.erasure import Erasure
    from stream.pipeline.hidden import ScorerLike
    from stream.pipeline.holdout import Holdout
    from stream.pipeline.packed import Message
    from stream.pipeline.ranking import Ranks
    from stream.pipeline.records import Record
    from stream.pipeline.state import UserTable

REASONS: Final = 3
_PATTERNS: Final = 8
_LOAD_IN_ORDER: Final = (
    "loaded as history, and its user has newer history, or as many newer events as state.ring: load"
    " history in order of time and before that many live events; to count what is late by now, load"
    " history and live events together, in order of time, under another app_id and topics.events"
)


class Emitter:
    """Builds the messages of one partition."""

    def __init__(
        self,
        topic: str,
        partition: int,
        holdout: Holdout,
        pseudonyms: Pseudonyms | None = None,
        erase_topic: str = "",
        currency: str | None = None,
    ) -> None:
        """``topic`` and ``partition`` of the source; ``erase_topic`` has the requests.

        ``currency`` is that of the amounts, None where they come as they are.
        With ``pseudonyms`` no message holds a user's id: copies of late events are rewritten, and
        of refused records, which may hold anything, nothing is copied.
        """
        self._topic = topic
        self._partition = partition
        self._holdout = holdout
        self._pseudonyms = pseudonyms
        self._erase_topic = erase_topic
        self._currency: str | UnsetType = UNSET if currency is None else currency
        self._patterns: dict[bytes, Pattern] = {}

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
        known: Snapshot,
        automated: NDArray[np.bool_],
        cold: NDArray[np.bool_],
        stale: bool,
        ranks: dict[str, Ranks],
        reason: PredictionReason | UnsetType = UNSET,
    ) -> list[Message] | Packed:
        """One prediction per row; ``keys`` are user ids in UTF-8, ``known`` is their users' state.

        ``cold`` is of users too new.

        At a timer (``reason``) both times are when it expired, and targets that apply at events
        only are left out.

        Packed, unless there is something that the kernel does not write: rankings, or odd ids.
        """
        readout = readout_of(scorer.targets, inactive=reason is not UNSET)
        own = tuple(target for target in readout.targets if target.gaps)
        blank = self._blank(scorer, readout, reason, stale=stale)
        pattern = self._pattern(blank)
        users, user_ends = joined(keys)
        told = readout.read(probabilities_NK)
        columns = Predictions(
            users,
            user_ends,
            offsets,
            state_times,
            event_times,
            told.scores_NS,
            cold | scorer.cold_start,
            automated,
            told.waits,
            told.spend,
            own_horizons(own, known),
        )
        out, ends = room_for(pattern, columns), np.empty(len(keys), np.int64)
        odd = write_predictions(pattern, columns, out, ends)
        if not ranks and not odd.any():
            return Packed.of_ends(users, user_ends, out, ends)
        values = cut(out, ends)
        for i in np.flatnonzero(odd).tolist():
            values[i] = encode(self._prediction(blank, keys[i], columns, i))
        return list(zip(keys, spliced(values, ranks), strict=True))

    def _pattern(self, blank: Prediction) -> Pattern:
        """Of predictions like this one: those of a few scorers are remembered."""
        key = encode(blank)
        found = self._patterns.get(key)
        if found is None:
            if len(self._patterns) >= _PATTERNS:
                self._patterns.clear()
            found = self._patterns[key] = pattern_of(blank, self._topic, self._partition)
        return found

    def _blank(
        self,
        scorer: ScorerLike,
        readout: Readout,
        reason: PredictionReason | UnsetType,
        *,
        stale: bool,
    ) -> Prediction:
        """What all predictions of a scorer have in common."""
        bins = readout.bins
        return Prediction(
            prediction_id="",
            user_id="",
            # A horizon of 0 stands for each user's own.
            targets={
                t.name: TargetScore(0.0, 0 if t.gaps else t.horizon_ms) for t in readout.targets
            },
            expected_spend=None if readout.amount is None else 0.0,
            currency=UNSET if readout.amount is None else self._currency,
            expected_wait_ms=UNSET if bins is None else 0,
            survival=UNSET if bins is None else [SurvivalPoint(e, 0.0) for e in bins.edges_ms],
            model_version=scorer.version,
            feature_version=scorer.feature_version,
            state_time=0,
            event_time=0,
            source=self.source(0),
            stale=stale,
            reason=reason,
            recalibration=_recalibration(scorer),
        )

    def _prediction(self, blank: Prediction, key: bytes, of: Predictions, i: int) -> Prediction:
        """One of many: what the kernel writes, as a message."""
        offset = int(of.offsets[i])
        scores = (of.scores_NS[i] / 10**DIGITS).tolist()
        survival = blank.survival
        own = iter(of.horizons[i].tolist())
        if survival is not UNSET:
            after = scores[len(blank.targets) :]
            survival = [
                SurvivalPoint(point.horizon_ms, score)
                for point, score in zip(survival, after, strict=True)
            ]
        return msgspec.structs.replace(
            blank,
            prediction_id=prediction_id(
                blank.model_version,
                self._topic,
                self._partition,
                offset,
                None if blank.reason is UNSET else int(of.state_times[i]),
            ),
            user_id=key.decode(),
            targets={
                name: TargetScore(score, target.horizon_ms or next(own))
                for (name, target), score in zip(blank.targets.items(), scores, strict=False)
            },
            expected_spend=None if blank.expected_spend is None else int(of.spend[i]) / AMOUNT_UNIT,
            expected_wait_ms=UNSET if survival is UNSET else int(of.waits[i]),
            survival=survival,
            state_time=int(of.state_times[i]),
            event_time=int(of.event_times[i]),
            source=self.source(offset),
            cold_start=bool(of.cold[i]),
            automated=bool(of.automated[i]),
        )

    def alerts(
        self, drafts: list[AlertDraft], table: UserTable, scorer: ScorerLike
    ) -> list[Message]:
        """One alert message per draft; must be called while the drafts' rows are valid."""
        reasons = _reasons(drafts, scorer)
        return [
            self._alert(draft, table, why, scorer)
            for draft, why in zip(drafts, reasons, strict=True)
        ]

    def _alert(
        self, draft: AlertDraft, table: UserTable, reasons: list[AlertReason], scorer: ScorerLike
    ) -> Message:
        user, record = table.user_id(draft.row), table.records[draft.row]
        raised = draft.transition == "raised"
        arm_of = self._holdout.note if raised else self._holdout.noted
        alert = ChurnAlert(
            alert_id=alert_id(user, draft.transition, draft.raised_at),
            episode=alert_id(user, "raised", draft.raised_at),
            user_id=user,
            state=draft.transition,
            risk=round(draft.risk, DIGITS),
            silence_ms=max(draft.silence, 0),
            expected_gap_ms=draft.expected_gap,
            horizon_ms=draft.horizon,
            reasons=reasons,
            value_at_risk=draft.value_at_risk,
            currency=self._currency,
            arm=arm_of(record, user, draft.raised_at),
            holdout_epoch=self._holdout.epoch(draft.raised_at) if raised else UNSET,
            cause=draft.cause,
            model_version=scorer.version,
            recalibration=_recalibration(scorer),
            event_time=draft.now,
            source=self.source(draft.offset),
            replayed=draft.past,
            cold_start=scorer.cold_start,
            decision_delay_ms=UNSET if draft.delay == UNKNOWN else draft.delay,
        )
        return user.encode(), encode(alert)

    def late(self, record: Record, late_by: int, grace: int, *, loaded: bool) -> Message:
        """A late event with its original bytes, or rewritten with the user's pseudonym.

        One that is late within the grace found no place among the events kept of its user. Both
        in ms. ``loaded``: it is history that was loaded.
        """
        value = record.value or b""
        event = decode_event(value, len(value))
        if self._pseudonyms is not None:
            event = self._pseudonyms.event(event)
            value = encode(event)
        message = late_event(
            self.source(record.offset),
            event.user_id,
            event.event_id,
            event.event_time,
            max(late_by, 0),
            value,
            "overflow" if late_by <= grace else "late",
            _LOAD_IN_ORDER if loaded else None,
        )
        return event.user_id.encode(), encode(message)

    def reused(self, record: Record, differing: int) -> Message:
        """An event whose id its user has given to another event, which counts."""
        value = record.value or b""
        event_id = decode_event(value, len(value)).event_id
        fields = [name for i, name in enumerate(CONTENT) if differing >> i & 1]
        cause = InvalidEvent(
            Reason.ID_REUSED,
            "event_id",
            f"{event_id!r} is the id of an earlier event of this user with another"
            f" {', '.join(fields)}: give every event, and every line of an order, an id of its own",
        )
        return self.dead(record, cause)

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
            notes=list(NOTES),
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


def _reasons(drafts: list[AlertDraft], scorer: ScorerLike) -> list[list[AlertReason]]:
    """Feature ablation: how much lower each risk would be with each feature at its typical value.

    None for the end of an alert, which needs no reason.
    """
    asked = [i for i, draft in enumerate(drafts) if draft.transition != "resolved"]
    reasons: list[list[AlertReason]] = [[] for _ in drafts]
    if not asked:
        return reasons
    count = len(PROFILE_FEATURES)
    ablated_BP = np.repeat([drafts[i].profile for i in asked], count, axis=0)
    feature_B = np.tile(np.arange(count), len(asked))
    ablated_BP[np.arange(len(ablated_BP)), feature_B] = scorer.reference_profile[feature_B]
    hidden_BH = np.repeat([drafts[i].hidden for i in asked], count, axis=0)
    told_BK = scorer.probabilities(hidden_BH, ablated_BP)
    column = churn_column(scorer)
    # Timers raise and escalate; a late event retracts.
    at_event_B = np.repeat([drafts[i].transition == "retracted" for i in asked], count)
    risks = np.where(
        at_event_B,
        recalibrated(scorer, EVENT, told_BK)[:, column],
        recalibrated(scorer, TIMER, told_BK)[:, column],
    )
    for i, ablated in zip(asked, risks.astype(np.float64).reshape(-1, count), strict=True):
        change = drafts[i].risk - ablated
        strongest: NDArray[np.intp] = np.argsort(-np.abs(change), kind="stable")[:REASONS]
        reasons[i] = [
            AlertReason(PROFILE_FEATURES[k], round(float(change[k]), DIGITS))
            for k in strongest.tolist()
            if change[k]
        ]
    return reasons


def _recalibration(scorer: ScorerLike) -> str | UnsetType:
    return UNSET if scorer.recalibration is None else scorer.recalibration.version
