"""What the engine writes of events that do not count: dead letters and late events."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from schemas.errors import InvalidMessage, Reason
from schemas.events import Id, Milliseconds
from schemas.outputs import Duration, Source

__all__ = [
    "MAX_ORIGINAL_BYTES",
    "MAX_ORIGINAL_KEY_BYTES",
    "DeadLetter",
    "LateEvent",
    "LateReason",
    "dead_letter",
    "late_event",
]

MAX_ORIGINAL_BYTES: Final = 640 * 1024
"""Longest copy of an original value: in base64 with its envelope it stays below Kafka's default
`max.message.bytes` of 1 MiB, so that even an oversized event can be dead-lettered."""
MAX_ORIGINAL_KEY_BYTES: Final = 16 * 1024

LateReason = Literal["late", "overflow"]


class DeadLetter(Struct, frozen=True, gc=False, kw_only=True):
    """An event that could not be used, with its original bytes. Key: the original key.

    Where users are pseudonyms, `value` is empty and clipped, and `key` a pseudonym: what cannot be
    read may name anybody. The record itself lies at `source`.
    """

    reason: Annotated[
        Reason, Meta(description="Stable machine-readable reason; later versions may have more.")
    ]
    source: Annotated[Source, Meta(description="Where the record lies.")]
    field: Annotated[
        str | None, Meta(description="Field at fault; null when the whole document is.")
    ] = None
    detail: Annotated[str, Meta(description="One line for a human.")] = ""
    key: Annotated[bytes | None, Meta(description="Original record key, base64.")] = None
    value: Annotated[
        bytes | None, Meta(description="Original record value, base64; null for a tombstone.")
    ] = None
    size: Annotated[
        int, Meta(ge=0, description="Bytes of the original value; more than `value` when clipped.")
    ] = 0
    clipped: Annotated[
        bool, Meta(description="True when `key` or `value` holds only the first bytes.")
    ] = False
    timestamp: Annotated[
        int | None, Meta(description="Kafka timestamp of the original record, ms since epoch.")
    ] = None


class LateEvent(Struct, frozen=True, gc=False, kw_only=True):
    """A valid event that came too late to take its place in the history. Key: `user_id`."""

    user_id: Annotated[Id, Meta(description="The user.")]
    event_id: Annotated[Id, Meta(description="Id of the event.")]
    event_time: Annotated[Milliseconds, Meta(description="Event time, ms since epoch.")]
    late_by_ms: Annotated[
        Duration, Meta(description="How much older than the user's latest event, milliseconds.")
    ]
    source: Annotated[Source, Meta(description="Where the record lies.")]
    value: Annotated[
        bytes,
        Meta(
            description="Original record value, base64; where users are pseudonyms, the event"
            " written anew with the pseudonym."
        ),
    ]
    size: Annotated[
        int, Meta(ge=0, description="Bytes of the original value; more than `value` when clipped.")
    ] = 0
    clipped: Annotated[
        bool, Meta(description="True when `value` holds only the first bytes; see `source`.")
    ] = False
    reason: Annotated[
        LateReason,
        Meta(
            description="late: older than the grace allows. overflow: within the grace, but before"
            " the oldest of the events that are kept of a user who has more than those at once."
        ),
    ] = "late"
    detail: Annotated[
        str | None, Meta(description="What would have made it count; null: nothing would.")
    ] = None


def late_event(
    source: Source,
    user_id: str,
    event_id: str,
    event_time: int,
    late_by_ms: int,
    value: bytes,
    reason: LateReason = "late",
    detail: str | None = None,
) -> LateEvent:
    """Wrap a late event; a value over the copy bound is clipped and marked so."""
    return LateEvent(
        user_id=user_id,
        event_id=event_id,
        event_time=event_time,
        late_by_ms=late_by_ms,
        source=source,
        value=value[:MAX_ORIGINAL_BYTES],
        size=len(value),
        clipped=len(value) > MAX_ORIGINAL_BYTES,
        reason=reason,
        detail=detail,
    )


def dead_letter(
    source: Source,
    key: bytes | None,
    value: bytes | None,
    cause: InvalidMessage,
    timestamp: int | None = None,
) -> DeadLetter:
    """Wrap a refused record; keys and values over the copy bounds are clipped and marked so."""
    size = len(value) if value is not None else 0
    return DeadLetter(
        reason=cause.reason,
        source=source,
        field=cause.field,
        detail=cause.detail,
        key=None if key is None else key[:MAX_ORIGINAL_KEY_BYTES],
        value=None if value is None else value[:MAX_ORIGINAL_BYTES],
        size=size,
        clipped=size > MAX_ORIGINAL_BYTES or len(key or b"") > MAX_ORIGINAL_KEY_BYTES,
        timestamp=timestamp,
    )
