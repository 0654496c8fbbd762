"""The churn alert of one user as a state machine: pure, on the record's alert fields.

calm -> (risk at or above raise_at) -> pending -> (for dwell_ms) -> raised -> (risk at or above
escalate_at, escalate_after_ms later) -> escalated; raised and escalated end in calm by a purchase,
a risk at or below resolve_at, or when the user is no longer eligible. After the end no new alert
comes within cooldown_ms, and, unless a purchase ended it, none before the next purchase (re-arm).
Each alert is raised later than the one before, also where that was retracted: of that moment has
been decided.

Who gave back what they bought is no customer that the shop could lose: such a user is not eligible,
and an open alert ends by the refund, however high the risk is. A refund that comes late and is of
before the alert retracts it, as it would not have been raised.

Only a timer raises or escalates, because inactivity makes the risk: no alert is raised at an event
of the user. An event of any type ends the dwell, and may resolve or retract. A user whose risk
is high at an event is evaluated at the next timer, which the event sets.

A new model alone raises nothing (churn.raise_on_model_change allows it). Where another model makes
the evaluation than made the one before, and only now the risk is at or above raise_at, the alert is
pending until a later timer finds the risk higher still: then it is the inactivity that raises it.
The risk of the evaluation before is in the record, so a restart changes nothing. Models that change
more often than timers fire thus delay an alert by one timer, and withhold none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from stream.config.settings import ChurnSettings


class Status(IntEnum):
    """Values of the record's ``status``."""

    CALM = 0
    PENDING = 1
    RAISED = 2
    ESCALATED = 3


class Trigger(IntEnum):
    """Values of the record's ``raised_by``: what made the alert pending."""

    BEHAVIOUR = 0
    """An event; only in records of earlier versions."""
    SILENCE = 1
    MODEL = 2
    """Nothing but a change of the model."""


Transition = Literal["raised", "escalated", "resolved", "retracted"]
Cause = Literal["behaviour", "silence", "model_change"]


@dataclass(slots=True)
class AlertFields:
    """The alert fields of a record, as Python numbers; times in ms."""

    status: Status = Status.CALM
    since: int = 0
    raised_at: int = 0
    raised_by: Trigger = Trigger.BEHAVIOUR
    cooldown_until: int = 0
    disarmed: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation of a user's risk; times in ms."""

    now: int
    """At an event the time of the user's latest event."""
    last_time: int
    """Of the user's latest event."""
    risk: float
    eligible: bool
    """The user has enough orders, not given back, to be lost (min_orders), and is a person."""
    risk_before: float
    """At the evaluation before."""
    new_model: bool = False
    """Another model made the evaluation before."""
    new_map: bool = False
    """The same model made it, with another recalibration."""
    event_time: int | None = None
    """Of the event that led to the evaluation, None for a timer."""
    purchased: bool = False
    """That event is a purchase that begins an order."""
    raising: bool = True
    """An alert may be raised: this is no evaluation of history, on which no action may follow."""

    def crosses(self, threshold: float) -> bool:
        """Whether the change of the model or its map may alone take the risk over it, or under."""
        changed = self.new_model or self.new_map
        return changed and (self.risk >= threshold) != (self.risk_before >= threshold)


def advance(fields: AlertFields, found: Evaluation, rules: ChurnSettings) -> Transition | None:
    """Move ``fields`` on by one evaluation; the transition to announce, if any."""
    if found.purchased:
        fields.disarmed = False
    if found.event_time is not None:
        return _at_event(fields, found, found.event_time, rules)
    if fields.status >= Status.RAISED:
        return _open(fields, found, rules)
    return _closed(fields, found, rules)


def cause_of(
    transition: Transition, fields: AlertFields, found: Evaluation, rules: ChurnSettings
) -> Cause:
    """What made the transition that ``advance`` returned, ``fields`` as it left them.

    Where a model evaluates a user for the first time, it cannot be known what the one before would
    say now; what it said last stands for that, so no change of the model is reported as one of the
    user.
    """
    if transition == "raised":
        return "model_change" if fields.raised_by is Trigger.MODEL else "silence"
    threshold = {"escalated": rules.escalate_at, "resolved": rules.resolve_at}.get(transition)
    by_risk = found.eligible and not found.purchased
    if threshold is not None and by_risk and found.new_model and found.crosses(threshold):
        return "model_change"
    return "silence" if found.event_time is None else "behaviour"


def _at_event(
    fields: AlertFields, found: Evaluation, event_time: int, rules: ChurnSettings
) -> Transition | None:
    if fields.status < Status.RAISED:
        fields.status = Status.CALM
        return None
    if event_time <= fields.raised_at:
        # It came late. One older than the user's latest leaves the inactivity as it was.
        if found.eligible and not found.purchased and event_time < found.last_time:
            return None
        # Armed as before; the cool-down keeps wrong clocks, which make many, from making a flood.
        fields.status, fields.since = Status.CALM, found.now
        fields.cooldown_until = max(fields.cooldown_until, fields.raised_at + rules.cooldown_ms)
        return "retracted"
    if found.purchased or not found.eligible or found.risk <= rules.resolve_at:
        return _resolve(fields, found, rules)
    return None


def _closed(fields: AlertFields, found: Evaluation, rules: ChurnSettings) -> Transition | None:
    if not _may_raise(fields, found, rules):
        fields.status = Status.CALM
        return None
    begins = fields.status is Status.CALM
    if begins:
        fields.status, fields.since = Status.PENDING, found.now
        alone = found.crosses(rules.raise_at)
        # A map is no model: where changes may raise, it raises as inactivity does.
        alone &= found.new_model or not rules.raise_on_model_change
        fields.raised_by = Trigger.MODEL if alone else Trigger.SILENCE
    if fields.raised_by is Trigger.MODEL and not rules.raise_on_model_change:
        if begins or found.risk <= found.risk_before:
            return None
        fields.raised_by = Trigger.SILENCE
    if found.now - fields.since < rules.dwell_ms:
        return None
    fields.status, fields.since, fields.raised_at = Status.RAISED, found.now, found.now
    return "raised"


def _may_raise(fields: AlertFields, found: Evaluation, rules: ChurnSettings) -> bool:
    return (
        found.risk >= rules.raise_at
        and found.raising
        and found.eligible
        and not fields.disarmed
        and found.now > found.last_time
        and found.now >= fields.cooldown_until
        and (not fields.raised_at or found.now > fields.raised_at)
    )


def _open(fields: AlertFields, found: Evaluation, rules: ChurnSettings) -> Transition | None:
    if not found.eligible or found.risk <= rules.resolve_at:
        return _resolve(fields, found, rules)
    if (
        fields.status is Status.RAISED
        and found.risk >= rules.escalate_at
        and found.now >= _ripe(fields, found.last_time, rules)
        and (rules.raise_on_model_change or not found.crosses(rules.escalate_at))
    ):
        fields.status, fields.since = Status.ESCALATED, found.now
        return "escalated"
    return None


def _resolve(fields: AlertFields, found: Evaluation, rules: ChurnSettings) -> Transition:
    fields.status, fields.since = Status.CALM, found.now
    fields.cooldown_until = found.now + rules.cooldown_ms
    fields.disarmed = not found.purchased
    return "resolved"


def _ripe(fields: AlertFields, last_time: int, rules: ChurnSettings) -> int:
    """When the open alert may escalate: a user who was there since is not still inactive."""
    return max(fields.raised_at, last_time) + rules.escalate_after_ms


@dataclass(frozen=True, slots=True)
class Pace:
    """What the time of the next evaluation depends on; ms."""

    last_time: int
    expected_gap: int
    eligible: bool


def next_evaluation(fields: AlertFields, pace: Pace, rules: ChurnSettings, now: int) -> int | None:
    """When a timer evaluates a user next, on a multiple of the tick; None: never.

    After an event, or before the alert can be raised: ``gap_factor`` expected gaps after the last
    event. Then each time that the inactivity has grown by ``recheck_factor``.
    """
    closed = fields.status is Status.CALM and fields.disarmed
    if not pace.eligible or closed or fields.status is Status.ESCALATED:
        return None
    first = pace.last_time + max(rules.min_gap_ms, int(rules.gap_factor * pace.expected_gap))
    if fields.status is Status.PENDING:
        first = fields.since + rules.dwell_ms
    elif fields.status is Status.RAISED:
        first = _ripe(fields, pace.last_time, rules)
    recheck = pace.last_time + int((now - pace.last_time) * rules.recheck_factor)
    wanted = first if now < first else recheck
    wanted = max(wanted, fields.cooldown_until if fields.status is Status.CALM else 0, now + 1)
    return round_up(wanted, rules.tick_ms)


def round_up(time: int, tick: int) -> int:
    """The first multiple of ``tick`` at or after ``time``."""
    return -(-time // tick) * tick
