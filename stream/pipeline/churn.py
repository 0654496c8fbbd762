"""Evaluations of users: what a risk means for the alert, and when a timer evaluates again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.history import AMOUNT_UNIT, PURCHASE, SessionRules, Snapshot, snapshot
from models.inputs.features import expected_gap, own_horizons, profile_of
from models.log.automation import automated, refunded_in_full
from models.populations import TIMER
from models.serving.recalibration import recalibrated, risk_code, same_model
from models.serving.thresholds import threshold_of
from models.targets import CHURN, column_of
from stream.config.targets import wanted_of
from stream.pipeline.alerts import (
    AlertFields,
    Cause,
    Evaluation,
    Pace,
    Status,
    Transition,
    Trigger,
    advance,
    cause_of,
    next_evaluation,
)
from stream.pipeline.hidden import ScorerLike, refresh
from stream.pipeline.layout import LANE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64, Events, Records
    from models.inputs.features import F32
    from models.overflow import Overflow
    from stream.config.settings import ChurnSettings, StateSettings
    from stream.pipeline.decisions import Decided
    from stream.pipeline.step import Judged

_REMEMBERED = 64
"""Models whose thresholds are kept at hand."""


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
    horizon: int
    """How far ahead the risk looks."""
    hidden: F32
    """[H] at ``now``."""
    offset: int
    """Source offset of the user's last event before the decision."""
    order_value: float
    """Mean spend per order, 1 / AMOUNT_UNIT."""
    past: bool
    """Decided of history."""
    delay: int
    """Of the decision behind ``now``, ms, `UNKNOWN`."""

    @property
    def value_at_risk(self) -> float:
        """Spend expected within the risk's horizon at the user's own rhythm, times the risk."""
        orders = self.horizon / max(self.expected_gap, 1)
        return round(self.order_value / AMOUNT_UNIT * orders * self.risk, 4)


@dataclass(frozen=True, slots=True)
class Inactive:
    """N users as a timer found them, each at its own deadline."""

    state: Snapshot
    offsets: I64
    """Source offset of each one's last event."""
    now: I64
    """ms."""
    probabilities: F32
    """[N,K]"""

    def take(self, chosen: NDArray[np.intp]) -> Inactive:
        """The chosen ones, in that order."""
        return Inactive(
            self.state.take(chosen),
            self.offsets[chosen],
            self.now[chosen],
            self.probabilities[chosen],
        )


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What is known of N users at one evaluation each."""

    state: Snapshot
    gaps: I64
    horizons: I64
    """How far ahead each risk looks, ms."""
    profile: F32
    hidden: F32
    offsets: I64
    risk: F32
    now: I64
    decided: Decided

    def draft(
        self, i: int, row: int, transition: Transition, cause: Cause, raised_at: int
    ) -> AlertDraft:
        """The announcement of a transition at evaluation ``i``."""
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
            horizon=int(self.horizons[i]),
            hidden=self.hidden[i],
            offset=int(self.offsets[i]),
            order_value=max(spend, 0) / max(orders, 1),
            past=bool(self.decided.past[i]),
            delay=int(self.decided.delay[i]),
        )


class ChurnWatch:
    """The alert state machine applied to rows of a table."""

    def __init__(
        self, rules: ChurnSettings, state: StateSettings, *, in_history: bool = False
    ) -> None:
        """``state``: for the time to live and for who is no person.

        ``in_history``: alerts of history are raised, whatever the rules say.
        """
        self._rules = rules
        self._wanted = wanted_of(rules)
        self._learnt: dict[int, ChurnSettings] = {}
        self._in_history = in_history or rules.raise_in_history
        self._sessions = SessionRules(state.session_gap_ms, state.session_max_ms)
        self._ttl = state.ttl_ms
        self._grace = state.grace_ms
        self._oldest = max(state.grace_ms, state.correction_ms)
        self._bot = state.bot_session_events

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
        decided: Decided,
        floor: I64 | None = None,
    ) -> list[AlertDraft]:
        """Evaluate the users of A accepted events, in order of arrival.

        ``floor``: per event the tick of its replay's clock; no timer is set at or before it. An
        alert that is pending or open moves at each event, so all of its user's have to be scored.
        """
        now = judged.snapshot.last_time
        ordered = _ordered(events, judged.snapshot, self._grace)
        # History that is loaded behind live events is no sign of life: it moves no alert.
        present = ~decided.past | (events.time >= now - self._oldest)
        # An event raises nothing, so only an alert that is pending or open can move.
        walked = present & (records["status"][rows] != Status.CALM)
        mine, scored = rows, judged.scored
        state, column = judged.snapshot, churn_column(scorer)
        if len(scored) < len(rows):
            mine, state, now = rows[scored], state.take(scored), now[scored]
            events, decided = events.take(scored), decided.take(scored)
        gaps = expected_gap(state, self._rules.prior_gap_ms)
        drafts: list[AlertDraft] = []
        if column is not None:
            risk, offsets = judged.probabilities[:, column], judged.offsets[scored]
            ahead = _horizons(scorer, column, state)
            found = _Evaluated(
                state, gaps, ahead, judged.profile, judged.hidden, offsets, risk, now, decided
            )
            moving = np.flatnonzero(walked[scored])
            drafts = self._advance(records, mine, moving, found, scorer, events)
            records["risk"][mine] = risk
            records["risk_model"][mine] = risk_code(scorer)
        # A purchase re-arms. Of those who are walked through the state machine has seen to that, in
        # turn: an event before the purchase must find them as they were.
        records["disarmed"][rows[ordered & present & ~walked]] = 0
        last = judged.latest
        earliest = None if floor is None else floor[scored[last]] + self._rules.tick_ms
        self._schedule(records, mine[last], state.take(last), gaps[last], now[last], earliest)
        return drafts

    def after_silence(
        self,
        records: Records,
        rows: NDArray[np.intp],
        scorer: ScorerLike,
        decided: Decided,
        overflow: Overflow,
    ) -> tuple[list[AlertDraft], Inactive]:
        """Evaluate users (each once) whose timer has expired, each at its own deadline.

        ``overflow``: what the records hold beyond their rings.
        """
        now = records["due"][rows].copy()
        state = snapshot(records, rows)
        gaps = expected_gap(state, self._rules.prior_gap_ms)
        drafts: list[AlertDraft] = []
        column = churn_column(scorer)
        refresh(records, rows, scorer)
        profiles = profile_of(records, rows, now, self._sessions, overflow)
        hidden = records["hidden"][rows, : scorer.hidden_size]
        probabilities = recalibrated(scorer, TIMER, scorer.probabilities(hidden, profiles))
        offsets = records["offset"][rows]
        if column is not None:
            risk = probabilities[:, column]
            ahead = _horizons(scorer, column, state)
            found = _Evaluated(state, gaps, ahead, profiles, hidden, offsets, risk, now, decided)
            drafts = self._advance(records, rows, np.arange(len(rows)), found, scorer, None)
        self._schedule(records, rows, state, gaps, now)
        return drafts, Inactive(state, offsets, now, probabilities)

    def present(self, decided: Decided) -> NDArray[np.bool_]:
        """Which decisions are not of history, or are wanted all the same."""
        return ~decided.past | self._in_history

    def _advance(
        self,
        records: Records,
        rows: NDArray[np.intp],
        chosen: NDArray[np.intp],
        found: _Evaluated,
        scorer: ScorerLike,
        events: Events | None,
    ) -> list[AlertDraft]:
        """Run the state machine over the chosen evaluations; ``events`` is None for timers."""
        eligible = self._eligible(found.state)
        raising = self._raising(found.decided, scorer)
        ordered = None if events is None else _ordered(events, found.state, self._grace)
        code, rules = risk_code(scorer), self._rules_of(scorer)
        drafts: list[AlertDraft] = []
        for i in chosen.tolist():
            row = int(rows[i])
            record = records[row]
            fields, before = _read(record), int(record["risk_model"])
            evaluation = Evaluation(
                now=int(found.now[i]),
                last_time=int(found.state.last_time[i]),
                risk=float(found.risk[i]),
                eligible=bool(eligible[i]),
                risk_before=float(record["risk"]),
                new_model=before != 0 and not same_model(before, scorer.code),
                new_map=before not in (0, code) and same_model(before, scorer.code),
                event_time=None if events is None else int(events.time[i]),
                purchased=ordered is not None and bool(ordered[i]),
                raising=bool(raising[i]),
            )
            transition = advance(fields, evaluation, rules)
            _write(record, fields)
            if transition is not None:
                cause = cause_of(transition, fields, evaluation, rules)
                drafts.append(found.draft(i, row, transition, cause, fields.raised_at))
            record["risk"], record["risk_model"] = evaluation.risk, code
        return drafts

    def _rules_of(self, scorer: ScorerLike) -> ChurnSettings:
        """The rules with the thresholds of a model, where they are learnt."""
        wanted = self._wanted
        if not wanted:
            return self._rules
        code = risk_code(scorer)
        found = self._learnt.get(code)
        if found is None:
            if len(self._learnt) >= _REMEMBERED:
                self._learnt.clear()
            risk = threshold_of(scorer, wanted, self._rules.raise_at)
            found = self._learnt[code] = self._rules.raising_at(risk)
        return found

    def _raising(self, decided: Decided, scorer: ScorerLike) -> NDArray[np.bool_]:
        """At which decisions an alert may be raised."""
        if not (scorer.raises or self._rules.raise_untrained):
            return np.zeros(len(decided.past), np.bool_)
        return self.present(decided)

    def _eligible(self, state: Snapshot) -> NDArray[np.bool_]:
        """Which users are persons who have bought and can be lost."""
        known = state.orders >= self._rules.min_orders
        return np.asarray(known & ~refunded_in_full(state) & ~self.automated(state))

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
        """Set when a timer evaluates each row (once in ``rows``) next, not before ``earliest``."""
        rules, tick = self._rules, self._rules.tick_ms
        eligible = self._eligible(state)
        wait = np.maximum(rules.min_gap_ms, (rules.gap_factor * gaps).astype(np.int64))
        wanted = np.maximum(state.last_time + wait, records["cooldown_until"][rows])
        due = np.where(eligible, -(-wanted // tick) * tick, 0)
        special = (records["status"][rows] != Status.CALM) | (records["disarmed"][rows] != 0)
        special |= eligible & (due <= now)
        for i in np.flatnonzero(special).tolist():
            pace = Pace(int(state.last_time[i]), int(gaps[i]), bool(eligible[i]))
            due[i] = next_evaluation(_read(records[rows[i]]), pace, rules, int(now[i])) or 0
        if self._ttl:
            expiry = -(-(state.last_time + self._ttl) // tick) * tick
            due = np.where(due == 0, expiry, np.minimum(due, expiry))
        if earliest is not None:
            due = np.where(due > 0, np.maximum(due, earliest), 0)
        records["due"][rows] = due
        # An index entry that is too early costs one read; moving it at every event would cost a
        # write.
        listed = records["indexed_due"][rows]
        lane = records["replayed"][rows].astype(np.int64) * LANE
        moved = (listed == 0) | (lane + due < listed) | (listed < lane)
        if earliest is not None:
            # Of another replay: this one's clock is past it.
            moved |= listed < lane + earliest
        records["indexed_due"][rows] = np.where((due > 0) & moved, lane + due, listed)


def churn_column(scorer: ScorerLike) -> int | None:
    """Which target of the model is churn, None if it has none."""
    return column_of(scorer.targets, CHURN)


def _horizons(scorer: ScorerLike, column: int, state: Snapshot) -> I64:
    """How far ahead the risk of each of N users looks, ms."""
    return own_horizons(scorer.targets[column : column + 1], state)[:, 0]


def _ordered(events: Events, state: Snapshot, grace: int) -> NDArray[np.bool_]:
    """Which events are purchases that begin an order: a further line of one is no return.

    Args:
        events: accepted events.
        state: of each one's user just after it.
        grace: one that came after it counts as of the user's latest event, ms.
    """
    late = events.time < state.last_time - grace
    counted = np.where(late, state.last_time, events.time)
    return np.asarray((events.type == PURCHASE) & (counted <= state.last_order))


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
