"""The churn alert of one user as a state machine: pure, on the record's alert fields.

calm -> (risk at or above raise_at) -> pending -> (for dwell_ms) -> raised -> (risk at or above
escalate_at, escalate_after_ms later) -> escalated; raised and escalated end in calm by a purchase
or a risk at or below resolve_at. After the end no new alert comes within cooldown_ms, and, unless a
purchase ended it, none before the next purchase (re-arm). Each alert is raised later than the one
before, also where that was retracted: of that moment has been decided.
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
    """Values of the record's ``raised_by``: what raised the open alert."""

    BEHAVIOUR = 0
    SILENCE = 1
    MODEL = 2
    """Nothing but a change of the model; also while the alert is pending."""


Transition = Literal["raised", "escalated", "resolved", "retracted"]


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
class Look:
    """One look at a user."""

    now: int
    risk: float
    eligible: bool
    """The user has a rhythm to break (min_orders)."""
    purchased: bool = False
    """The look follows a purchase."""
    event_time: int | None = None
    """Time of the event that led to the look, None for silence."""


def advance(fields: AlertFields, look: Look, rules: ChurnSettings) -> Transition | None:
    """Move ``fields`` on by one look; the transition to announce, if any."""
    if look.purchased:
        fields.disarmed = False
    if fields.status >= Status.RAISED:
        return _open(fields, look, rules)
    if not _may_raise(fields, look, rules):
        fields.status = Status.CALM
        return None
    if fields.status is Status.CALM:
        fields.status, fields.since = Status.PENDING, look.now
        fields.raised_by = Trigger.BEHAVIOUR
    if look.now - fields.since < rules.dwell_ms:
        return None
    fields.status, fields.since, fields.raised_at = Status.RAISED, look.now, look.now
    if fields.raised_by is not Trigger.MODEL:
        fields.raised_by = Trigger.SILENCE if look.event_time is None else Trigger.BEHAVIOUR
    return "raised"


def _may_raise(fields: AlertFields, look: Look, rules: ChurnSettings) -> bool:
    # A purchase is the opposite of churn, whatever the model says of it.
    return (
        look.risk >= rules.raise_at
        and look.eligible
        and not look.purchased
        and not fields.disarmed
        and look.now >= fields.cooldown_until
        and (not fields.raised_at or look.now > fields.raised_at)
    )


def _open(fields: AlertFields, look: Look, rules: ChurnSettings) -> Transition | None:
    if _was_wrong(fields, look, rules):
        # As if it had never been: no cool-down, and armed as before.
        fields.status, fields.since = Status.CALM, look.now
        return "retracted"
    if look.purchased or look.risk <= rules.resolve_at:
        fields.status, fields.since = Status.CALM, look.now
        fields.cooldown_until = look.now + rules.cooldown_ms
        fields.disarmed = not look.purchased
        return "resolved"
    waited = look.now - fields.raised_at >= rules.escalate_after_ms
    if fields.status is Status.RAISED and waited and look.risk >= rules.escalate_at:
        fields.status, fields.since = Status.ESCALATED, look.now
        return "escalated"
    return None


def _was_wrong(fields: AlertFields, look: Look, rules: ChurnSettings) -> bool:
    """Whether an event that came late shows that the open alert should not have been raised."""
    if look.event_time is None or look.event_time >= fields.raised_at:
        return False
    # Someone who was there was not silent; other alerts stand unless the risk falls with the event.
    return fields.raised_by is Trigger.SILENCE or look.risk < rules.raise_at


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What the time of the next look depends on; ms."""

    last_time: int
    expected_gap: int
    eligible: bool


def next_look(fields: AlertFields, rhythm: Rhythm, rules: ChurnSettings, now: int) -> int | None:
    """When to look at a user next if nothing happens, on a multiple of the tick; None: never."""
    closed = fields.status is Status.CALM and fields.disarmed
    if not rhythm.eligible or closed or fields.status is Status.ESCALATED:
        return None
    silent_by = rhythm.last_time + max(
        rules.min_gap_ms, int(rules.gap_factor * rhythm.expected_gap)
    )
    recheck = rhythm.last_time + int((now - rhythm.last_time) * rules.recheck_factor)
    wanted = silent_by if now < silent_by else recheck
    if fields.status is Status.PENDING:
        wanted = fields.since + rules.dwell_ms
    elif fields.status is Status.RAISED:
        ripe = fields.raised_at + rules.escalate_after_ms
        wanted = ripe if now < ripe else recheck
    wanted = max(wanted, fields.cooldown_until if fields.status is Status.CALM else 0, now + 1)
    return round_up(wanted, rules.tick_ms)


def round_up(time: int, tick: int) -> int:
    """The first multiple of ``tick`` at or after ``time``."""
    return -(-time // tick) * tick
