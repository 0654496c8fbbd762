"""The product's error tree starts here: all errors a user may see are `IntentStreamError`s."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "IncompatibleSchema",
    "IntentStreamError",
    "InvalidEvent",
    "InvalidMessage",
    "Reason",
    "SchemaError",
]


class Reason(StrEnum):
    """Why a message is refused. The values are part of the wire contract and keep their meaning."""

    TRUNCATED = "truncated"
    """The JSON document ends before it is complete (an empty value included)."""
    MALFORMED = "malformed"
    """Text that is no JSON document, or a document followed by something else."""
    NOT_UTF8 = "not_utf8"
    """Bytes that are not UTF-8, or an escaped lone surrogate, which has no UTF-8 form."""
    NOT_A_NUMBER = "not_a_number"
    """NaN, an infinity, or a number beyond double precision such as 1e999."""
    MISSING_FIELD = "missing_field"
    """A required field is absent."""
    WRONG_TYPE = "wrong_type"
    """A field, or the document itself, has another JSON type than the schema says."""
    UNKNOWN_TYPE = "unknown_type"
    """`type` names no event type that this version knows."""
    NULL_VALUE = "null_value"
    """No value at all (a tombstone), a JSON null document, or null in a required field."""
    TOO_LARGE = "too_large"
    """More bytes than the bound."""
    TOO_DEEP = "too_deep"
    """Nested deeper than `codec.MAX_DEPTH`."""
    OUT_OF_RANGE = "out_of_range"
    """A number or a text length outside its bounds."""
    KEY_MISSING = "key_missing"
    """The record has no key."""
    KEY_MISMATCH = "key_mismatch"
    """The record's key is not the UTF-8 form of `user_id`."""
    WRONG_PARTITION = "wrong_partition"
    """The record lies in another partition than murmur2 of its key says."""
    ID_REUSED = "id_reused"
    """The user has an earlier event of this `event_id` with other content."""
    FUTURE = "future"
    """`event_time` is further ahead of the clock than the bound."""


class IntentStreamError(Exception):
    """Base of all errors of this product. The message names the place and the remedy."""


class SchemaError(IntentStreamError):
    """Something is wrong with a message or with a schema."""


class InvalidMessage(SchemaError):
    """A message that cannot be decoded to its schema.

    Attributes:
        reason: stable machine-readable reason.
        field: dotted path of the field at fault, or None when the whole document is.
        detail: one line for a human.
    """

    def __init__(self, reason: Reason, field: str | None = None, detail: str = "") -> None:
        """Keep reason, field and detail, and make one line of them."""
        self.reason = Reason(reason)
        self.field = field
        self.detail = detail
        where = f" (field {field})" if field else ""
        super().__init__(f"{self.reason.value}{where}{': ' if detail else ''}{detail}")

    def __reduce__(self) -> tuple[type[InvalidMessage], tuple[Reason, str | None, str]]:
        """Pickle by the constructor's arguments: the default would pass only the joined line."""
        return type(self), (self.reason, self.field, self.detail)


class InvalidEvent(InvalidMessage):
    """A behaviour event that goes to the dead-letter topic."""


class IncompatibleSchema(SchemaError):
    """A changed schema that would break readers or writers that are already out there."""
