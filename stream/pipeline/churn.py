"""Looks at users: what their risk means for their alert, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from models.history import PURCHASE, Snapshot, snapshot
from models.inputs.features import expected_gap, profile, ring_inputs
from models.log.automation import automated
from stream.errors import ScorerFailed
from stream.pipeline.alerts import (
    AlertFields,
    Look,
    Rhythm,
    Status,
    Transition,
    Trigger,
    advance,
    next_look,
)
from stream.pipeline.hidden import ScorerLike, refresh

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from models.history import I64, Events, Records
    from models.inputs.features import F32
    from stream.config.settings import ChurnSettings, StateSettings
    from stream.pipeline.step import Judged

Cause = Literal["behaviour", "silence", "model_change"]

CHURN = "churn"
REMEMBERED: Final = 4
"""Models that are kept in memory to tell a change of the user from one of the model."""


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
    hidden: F32
    """[H] at ``now``."""
    offset: int
    """Source offset of the user's last event before the decision."""
    order_value: float
    """Mean spend per order, 1 / AMOUNT_UNIT."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """What is seen of N users at one look each."""

    state: Snapshot
    gaps: I64
    profile: F32
    hidden: F32
    offsets: I64
    risk: F32
    now: I64

    def draft(
        self, i: int, row: int, transition: Transition, cause: Cause, raised_at: int
    ) -> AlertDraft:
        """The announcement of a transition at look ``i``."""
        spend, orders = int(self.state.spend[i]), int(self.state.orders[i])
        return AlertDraft(
            row=row,
            transition=transition,
            now=int(self.now[i]),
            risk=float(self.risk[i]),
            cause=cause,
            raised_at=raised_at,
            profile=self.profile[i],
            silence=int(self.now[i]) - int(self.state.last_time[i]),
            expected_gap=int(self.gaps[i]),
            hidden=self.hidden[i],
            offset=int(self.offsets[i]),
            order_value=max(spend, 0) / max(orders, 1),
        )


class ChurnWatch:
    """The alert state machine applied to rows of a table."""

    def __init__(self, rules: ChurnSettings, state: StateSettings) -> None:
        """``state``: for the time to live and for who is no person."""
        self._rules = rules
        self._ttl = state.ttl_ms
        self._bot = state.bot_session_events
        self._models: dict[int, ScorerLike] = {}

    def automated(self, state: Snapshot) -> NDArray[np.bool_]:
        """Which users are no persons."""
        return automated(state, self._bot)

    def after_events(
        self,
        records: Records,
        rows: NDArray[np.intp],
        events: Events,
        judged: Judged,
        scorer: ScorerLike,
        floor: I64 | None = None,
    ) -> list[AlertDraft]:
        """Look at the users of N accepted events, in order of arrival.

        ``floor``: per event the tick of the watermark; no timer is set at or before it.
        """
        state, now = judged.snapshot, judged.snapshot.last_time
        gaps = expected_gap(state, self._rules.prior_gap_ms)
        walked = np.zeros(len(rows), np.bool_)
        drafts: list[AlertDraft] = []
        column = churn_column(scorer)
        if column is not None:
            risk = judged.probabilities[:, column]
            alarming = self._eligible(state) & (risk >= self._rules.raise_at)
            alarming |= records["status"][rows] != Status.CALM
            # Whoever has one alarming event is walked through all of them.
            walked = np.isin(rows, rows[alarming])
            sight = _Sight(state, gaps, judged.profile, judged.hidden, judged.offsets, risk, now)
            drafts = self._look(records, rows, np.flatnonzero(walked), sight, scorer, events)
            records["risk"][rows] = risk
            records["risk_model"][rows] = scorer.code
        # A purchase re-arms. Of those who are walked through the state machine has seen to that, in
        # turn: an alarming event before the purchase must find them as they were.
        records["disarmed"][rows[(events.type == PURCHASE) & ~walked]] = 0
        last = _last_of_each(rows)
        earliest = None if floor is None else floor[last] + self._rules.tick_ms
        self._schedule(records, rows[last], state.take(last), gaps[last], now[last], earliest)
        return drafts

    def after_silence(
        self, records: Records, rows: NDArray[np.intp], scorer: ScorerLike
    ) -> list[AlertDraft]:
        """Look at users (each once) whose timer is due, each at its own due time."""
        now = records["due"][rows].copy()
        state = snapshot(records, rows)
        gaps = expected_gap(state, self._rules.prior_gap_ms)
        drafts: list[AlertDraft] = []
        column = churn_column(scorer)
        if column is not None:
            refresh(records, rows, scorer)
            profiles = profile(state, now)
            hidden = records["hidden"][rows, : scorer.hidden_size]
            risk = scorer.probabilities(hidden, profiles)[:, column]
            sight = _Sight(state, gaps, profiles, hidden, records["offset"][rows], risk, now)
            drafts = self._look(records, rows, np.arange(len(rows)), sight, scorer, None)
            records["risk"][rows] = risk
            records["risk_model"][rows] = scorer.code
        self._schedule(records, rows, state, gaps, now)
        return drafts

    def _look(
        self,
        records: Records,
        rows: NDArray[np.intp],
        chosen: NDArray[np.intp],
        sight: _Sight,
        scorer: ScorerLike,
        events: Events | None,
    ) -> list[AlertDraft]:
        """Run the state machine over the chosen looks; ``events`` is None for silence."""
        eligible = self._eligible(sight.state)
        drafts: list[AlertDraft] = []
        for i in chosen.tolist():
            row = int(rows[i])
            record = records[row]
            look = Look(int(sight.now[i]), float(sight.risk[i]), bool(eligible[i]))
            if events is not None:
                bought = bool(events.type[i] == PURCHASE)
                look = replace(look, purchased=bought, event_time=int(events.time[i]))
            fields, before = _read(record), _read(record)
            transition = advance(fields, look, self._rules)
            if self._by_model_alone(
                records[rows[i : i + 1]], before, fields, look, scorer, sight, i
            ):
                fields.raised_by = Trigger.MODEL
                by_model = True
            else:
                by_model = transition == "raised" and fields.raised_by is Trigger.MODEL
            _write(record, fields)
            if transition is not None:
                cause: Cause = "behaviour" if events is not None else "silence"
                cause = "model_change" if by_model else cause
                drafts.append(sight.draft(i, row, transition, cause, fields.raised_at))
            record["risk"], record["risk_model"] = look.risk, scorer.code
        return drafts

    def _by_model_alone(
        self,
        record: Records,
        before: AlertFields,
        after: AlertFields,
        look: Look,
        scorer: ScorerLike,
        sight: _Sight,
        i: int,
    ) -> bool:
        """Whether an alert moves at this look because another model scores, and for nothing else.

        Asked at a user's first look after a change of the model: would the alert have moved, had
        the old model scored the same moment? Where that model is not at hand any more (the worker
        began anew since), what it said at the last look stands for it, so that no change of the
        model is ever told as one of the user.
        """
        code = int(record["risk_model"][0])
        if code in (0, scorer.code) or before.status is after.status:
            return False
        risk = self._risk_of(code, record, sight, i)
        if risk is None:
            risk = float(record["risk"][0])
        advance(before, replace(look, risk=risk), self._rules)
        return before.status is not after.status

    def _risk_of(self, code: int, record: Records, sight: _Sight, i: int) -> float | None:
        """What an earlier model says of look ``i``, None if it cannot be asked."""
        model = self._models.get(code)
        column = None if model is None else churn_column(model)
        if model is None or column is None:
            return None
        then = record.copy()
        # As it was at the look: events of the same batch that came later do not count.
        later = int(record["n"][0]) - int(sight.state.n[i])
        then["n"] = sight.state.n[i]
        length = max(min(model.history_length, record["ring"].shape[1] - later), 1)
        inputs = ring_inputs(then, np.zeros(1, np.intp), length)
        try:
            said = model.probabilities(model.encode(*inputs), sight.profile[i : i + 1])
        except ScorerFailed:
            return None
        return float(said[0, column])

    def remember(self, models: Iterable[ScorerLike]) -> None:
        """Keep models that do not score any more, the last ones: they may still be asked."""
        for model in models:
            self._models.pop(model.code, None)
            self._models[model.code] = model
        while len(self._models) > REMEMBERED:
            del self._models[next(iter(self._models))]

    def _eligible(self, state: Snapshot) -> NDArray[np.bool_]:
        return (state.orders >= self._rules.min_orders) & ~self.automated(state)

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
        earliest: I64 | None = None,
    ) -> None:
        """Set when to look at each row (once in ``rows``) next, not before ``earliest``."""
        rules, tick = self._rules, self._rules.tick_ms
        eligible = self._eligible(state)
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
        if earliest is not None:
            due = np.where(due > 0, np.maximum(due, earliest), 0)
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


def _read(record: np.void) -> AlertFields:
    return AlertFields(
        Status(int(record["status"])),
        int(record["since"]),
        int(record["raised_at"]),
        Trigger(int(record["raised_by"])),
        int(record["cooldown_until"]),
        bool(record["disarmed"]),
    )


def _write(record: np.void, fields: AlertFields) -> None:
    record["status"], record["since"] = fields.status, fields.since
    record["raised_at"], record["cooldown_until"] = fields.raised_at, fields.cooldown_until
    record["raised_by"], record["disarmed"] = fields.raised_by, fields.disarmed
