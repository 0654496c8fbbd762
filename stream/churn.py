"""Looks at users: what their risk means for their alert, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from models.features import expected_gap, profile
from models.history import PURCHASE, Snapshot, snapshot
from stream.alerts import AlertFields, Look, Rhythm, Status, Transition, advance, next_look
from stream.hidden import ScorerLike, refresh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.features import F32
    from models.history import I64, Events, Records
    from stream.settings import ChurnSettings
    from stream.step import Judged

Cause = Literal["behaviour", "silence", "model_change"]

CHURN = "churn"


@dataclass(frozen=True, slots=True)
class AlertDraft:
    """A transition to announce, with all that the message needs; times in ms."""

    row: int
    transition: Transition
    now: int
    risk: float
    cause: Cause
    raised_at: int
    profile: F32
    """[P] at ``now``."""
    silence: int
    expected_gap: int
    order_value: float
    """Mean spend per order, 1 / AMOUNT_UNIT."""


class ChurnWatch:
    """The alert state machine applied to rows of a table."""

    def __init__(self, rules: ChurnSettings, ttl: int) -> None:
        """``ttl``: silence after which a user is forgotten, ms, 0 = never."""
        self._rules = rules
        self._ttl = ttl

    def after_events(
        self,
        records: Records,
        rows: NDArray[np.intp],
        events: Events,
        judged: Judged,
        scorer: ScorerLike,
    ) -> list[AlertDraft]:
        """Look at the users of N accepted events, in order of arrival."""
        purchase = events.type == PURCHASE
        records["disarmed"][rows[purchase]] = 0
        column = churn_column(scorer)
        drafts: list[AlertDraft] = []
        state = judged.snapshot
        gaps = expected_gap(state, self._rules.prior_gap_ms)
        if column is not None:
            risk = judged.probabilities[:, column]
            eligible = state.orders >= self._rules.min_orders
            alarming = (records["status"][rows] != Status.CALM) | (
                eligible & (risk >= self._rules.raise_at)
            )
            if alarming.any():
                concerned = np.zeros(len(records), np.bool_)
                concerned[rows[alarming]] = True
                for i in np.flatnonzero(concerned[rows]).tolist():
                    look = Look(
                        int(state.last_time[i]),
                        float(risk[i]),
                        bool(eligible[i]),
                        bool(purchase[i]),
                    )
                    draft = self._look(records, int(rows[i]), look, scorer, state, judged, gaps, i)
                    drafts += draft
            records["risk"][rows] = risk
            records["risk_model"][rows] = scorer.code
        last = _last_of_each(rows)
        self._schedule(records, rows[last], state.take(last), gaps[last], state.last_time[last])
        return drafts

    def _look(
        self,
        records: Records,
        row: int,
        look: Look,
        scorer: ScorerLike,
        state: Snapshot,
        judged: Judged,
        gaps: I64,
        i: int,
    ) -> list[AlertDraft]:
        record = records[row]
        new_model = record["risk_model"] != np.uint64(scorer.code) and record["risk_model"] != 0
        swapped = new_model and record["risk"] < self._rules.raise_at
        fields = _read(record)
        transition = advance(fields, look, self._rules)
        _write(record, fields)
        record["risk"], record["risk_model"] = look.risk, scorer.code
        if transition is None:
            return []
        cause: Cause = "model_change" if swapped and transition == "raised" else "behaviour"
        return [
            AlertDraft(
                row,
                transition,
                look.now,
                look.risk,
                cause,
                fields.raised_at,
                judged.profile[i],
                look.now - int(state.last_time[i]),
                int(gaps[i]),
                _order_value(state, i),
            )
        ]

    def after_silence(
        self, records: Records, rows: NDArray[np.intp], scorer: ScorerLike
    ) -> list[AlertDraft]:
        """Look at users (each once) whose timer is due, each at its own due time."""
        now = records["due"][rows].copy()
        state = snapshot(records, rows)
        gaps = expected_gap(state, self._rules.prior_gap_ms)
        column = churn_column(scorer)
        drafts: list[AlertDraft] = []
        if column is not None:
            refresh(records, rows, scorer)
            profiles = profile(state, now)
            hidden = records["hidden"][rows, : scorer.hidden_size]
            risk = scorer.probabilities(hidden, profiles)[:, column]
            for i, row in enumerate(rows.tolist()):
                fields = _read(records[row])
                eligible = bool(state.orders[i] >= self._rules.min_orders)
                look = Look(int(now[i]), float(risk[i]), eligible)
                transition = advance(fields, look, self._rules)
                _write(records[row], fields)
                if transition is not None:
                    drafts.append(
                        AlertDraft(
                            row,
                            transition,
                            look.now,
                            look.risk,
                            "silence",
                            fields.raised_at,
                            profiles[i],
                            look.now - int(state.last_time[i]),
                            int(gaps[i]),
                            _order_value(state, i),
                        )
                    )
            records["risk"][rows] = risk
            records["risk_model"][rows] = scorer.code
        self._schedule(records, rows, state, gaps, now)
        return drafts

    def expired(self, records: Records, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of the due users have been silent for the whole time to live."""
        if not self._ttl:
            return np.zeros(len(rows), np.bool_)
        silence = records["due"][rows] - records["last_time"][rows]
        return np.asarray(silence >= self._ttl)

    def _schedule(
        self,
        records: Records,
        rows: NDArray[np.intp],
        state: Snapshot,
        gaps: I64,
        now: I64,
    ) -> None:
        """Set when to look at each row (once in ``rows``) next."""
        rules, tick = self._rules, self._rules.tick_ms
        eligible = state.orders >= rules.min_orders
        wait = np.maximum(rules.min_gap_ms, (rules.gap_factor * gaps).astype(np.int64))
        wanted = np.maximum(state.last_time + wait, records["cooldown_until"][rows])
        due = np.where(eligible, -(-wanted // tick) * tick, 0)
        special = (records["status"][rows] != Status.CALM) | (records["disarmed"][rows] != 0)
        special |= eligible & (due <= now)
        for i in np.flatnonzero(special).tolist():
            rhythm = Rhythm(int(state.last_time[i]), int(gaps[i]), bool(eligible[i]))
            due[i] = next_look(_read(records[rows[i]]), rhythm, rules, int(now[i])) or 0
        if self._ttl:
            expiry = -(-(state.last_time + self._ttl) // tick) * tick
            due = np.where(due == 0, expiry, np.minimum(due, expiry))
        records["due"][rows] = due
        # An index entry that is too early costs one look; moving it at every event would cost a
        # write.
        listed = records["indexed_due"][rows]
        sooner = (due > 0) & ((listed == 0) | (due < listed))
        records["indexed_due"][rows] = np.where(sooner, due, listed)


def churn_column(scorer: ScorerLike) -> int | None:
    """Which target of the model is churn, None if it has none."""
    names = [target.name for target in scorer.targets]
    return names.index(CHURN) if CHURN in names else None


def _last_of_each(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Per distinct row the index of its last occurrence."""
    _, from_end = np.unique(rows[::-1], return_index=True)
    return np.sort(len(rows) - 1 - from_end)


def _order_value(state: Snapshot, i: int) -> float:
    return max(int(state.spend[i]), 0) / max(int(state.orders[i]), 1)


def _read(record: np.void) -> AlertFields:
    return AlertFields(
        Status(int(record["status"])),
        int(record["since"]),
        int(record["raised_at"]),
        int(record["cooldown_until"]),
        bool(record["disarmed"]),
    )


def _write(record: np.void, fields: AlertFields) -> None:
    record["status"], record["since"] = fields.status, fields.since
    record["raised_at"], record["cooldown_until"] = fields.raised_at, fields.cooldown_until
    record["disarmed"] = fields.disarmed
