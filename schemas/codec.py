"""Bytes <-> struct. `decode_event` is the hot path of the engine; failures take a slow path.

One decoder of the tagged union lives for the whole process. Only when it refuses a message are the
bytes looked at again, to map msgspec's text to a stable `Reason`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final, TypeVar

import msgspec

from schemas.errors import InvalidEvent, InvalidMessage, Reason
from schemas.events import OPTIONAL_FIELDS, TYPE_CODES, Event
from schemas.times import unit_of

__all__ = [
    "MAX_DEPTH",
    "MAX_EVENT_BYTES",
    "decode",
    "decode_event",
    "encode",
    "validate_key",
]

MAX_EVENT_BYTES: Final = 1024 * 1024
"""Default bound on the size of one event."""
MAX_DEPTH: Final = 512
"""Deepest nesting of a message. msgspec alone would refuse at a depth that varies with the caller's
stack, and one log must be judged alike by every run."""

T = TypeVar("T")


class _Tag(msgspec.Struct):
    type: msgspec.Raw


_OBJECTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EVENTS: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)
_TAGS: Final = msgspec.json.Decoder(_Tag)
_ENCODER: Final = msgspec.json.Encoder()
_DECODERS: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}
# Nesting to MAX_DEPTH takes two bytes a level: shorter messages need no look at their brackets.
_SHALLOW_BYTES: Final = 2 * MAX_DEPTH

_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_LEVELS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
_HALF_PAIR: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u|\\?\Z)")
_NON_FINITE: Final = re.compile(rb"[+-]?(?:nan|inf)", re.IGNORECASE)
_FRACTION: Final = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_INTEGERS: Final = frozenset({"event_time", "quantity", "schema_version"})
_INTEGER_DIGITS: Final = 18
_LONGEST_TIME: Final = 32
"""Bytes of a number whose unit is looked for."""
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_AT: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `([^`]*)`")


def decode_event(payload: bytes | None, max_bytes: int = MAX_EVENT_BYTES) -> Event:
    """Decode one event.

    Args:
        payload: value of the Kafka record; None is a tombstone.
        max_bytes: bound on its length.

    Raises:
        InvalidEvent: for every payload that is not a valid event, whatever its bytes.
    """
    try:
        # Decoding to text first checks all of the UTF-8, also in fields that msgspec skips.
        if len(payload) <= _SHALLOW_BYTES and len(payload) <= max_bytes:  # type: ignore[arg-type]
            return _EVENTS.decode(payload.decode())  # type: ignore[union-attr]
        return _decode_long(payload, max_bytes)  # type: ignore[arg-type]
    except msgspec.ValidationError as error:
        return _decode_tolerantly(payload, error)  # type: ignore[arg-type]
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError) as error:
        raise _explain(InvalidEvent, payload, error) from None


def _decode_tolerantly(payload: bytes, refused: msgspec.ValidationError) -> Event:
    """Decode an event whose optional fields may be empty texts and whose integers may be 1.0.

    Exporters of tables write both. The schema asks producers for neither, but readers take them.

    Args:
        payload: JSON in UTF-8.
        refused: why the strict decoder did not take it.

    Raises:
        InvalidEvent: it is no event either way.
    """
    error: Exception = refused
    try:
        fields = _OBJECTS.decode(payload)
        kept = {
            name: _whole(bytes(raw)) if name in _INTEGERS else raw
            for name, raw in fields.items()
            if name not in OPTIONAL_FIELDS or bytes(raw) != b'""'
        }
        # A second tag stays an error: the mapping would hide it.
        if kept != fields and "$.type" not in str(refused):
            return _EVENTS.decode(_ENCODER.encode(kept))
    except msgspec.MsgspecError as again:
        error = again
    raise _explain(InvalidEvent, payload, error) from None


def _whole(raw: bytes) -> msgspec.Raw:
    """A whole number such as 1.0 or 1e0 written as an integer; anything else as it is."""
    if not _FRACTION.fullmatch(raw):
        return msgspec.Raw(raw)
    number = Decimal(raw.decode())
    if number.adjusted() < _INTEGER_DIGITS and number == number.to_integral_value():
        return msgspec.Raw(str(int(number)).encode())
    return msgspec.Raw(raw)


def _decode_long(payload: bytes, max_bytes: int) -> Event:
    if len(payload) > max_bytes:
        detail = f"{len(payload)} bytes, at most {max_bytes} are accepted"
        raise InvalidEvent(Reason.TOO_LARGE, None, detail)
    _check_depth(InvalidEvent, payload)
    return _EVENTS.decode(payload.decode())


def decode(kind: type[T], payload: bytes | None) -> T:
    """Decode an output or control message of the given struct.

    Raises:
        InvalidMessage: when the payload is no such message.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    if payload is None:
        raise InvalidMessage(Reason.NULL_VALUE, None, "the record has no value")
    _check_depth(InvalidMessage, payload)
    try:
        message: T = decoder.decode(payload.decode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _explain(InvalidMessage, payload, error) from None
    return message


def encode(message: msgspec.Struct) -> bytes:
    """Encode an event, output or control message as JSON in UTF-8."""
    return _ENCODER.encode(message)


def validate_key(key: bytes | None, user_id: str) -> None:
    """Check that the record key is the user id in UTF-8.

    Raises:
        InvalidEvent: `key_missing` or `key_mismatch`.
    """
    if key == user_id.encode():
        return
    if not key:
        raise InvalidEvent(Reason.KEY_MISSING, "user_id", "the record key must be the user_id")
    shown = key[:64].decode("utf-8", "backslashreplace")
    raise InvalidEvent(Reason.KEY_MISMATCH, "user_id", f"the record key is {shown!r}")


def _check_depth(refusal: type[InvalidMessage], payload: bytes) -> None:
    """Raise when brackets outside strings nest deeper than `MAX_DEPTH`."""
    if payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRINGS.sub(b"", payload).translate(_LEVELS, _NOT_BRACKETS)
    if any(level > MAX_DEPTH for level in accumulate(memoryview(brackets).cast("b"))):
        raise refusal(Reason.TOO_DEEP, None, f"nested deeper than {MAX_DEPTH} levels")


def _explain(
    refusal: type[InvalidMessage], payload: bytes | None, error: Exception
) -> InvalidMessage:
    """The refusal, with its stable reason, for what the decoder raised."""
    text = str(error)
    if payload is None:
        return refusal(Reason.NULL_VALUE, None, "the record has no value")
    if isinstance(error, UnicodeError):
        return refusal(Reason.NOT_UTF8, None, text)
    if isinstance(error, RecursionError):
        return refusal(Reason.TOO_DEEP, None, text)
    if isinstance(error, msgspec.ValidationError):
        return _explain_validation(refusal, payload, text)
    return _explain_syntax(refusal, payload, text)


def _explain_syntax(refusal: type[InvalidMessage], payload: bytes, text: str) -> InvalidMessage:
    at_byte = _BYTE.search(text)
    if at_byte is None:
        # msgspec calls the first half of a surrogate pair without the second "truncated" as well.
        half = _HALF_PAIR.search(payload)
        return refusal(Reason.NOT_UTF8 if half else Reason.TRUNCATED, None, text)
    if "surrogate" in text:
        return refusal(Reason.NOT_UTF8, None, text)
    position = int(at_byte[1])
    # msgspec takes `nan` for a misspelt `null` and points behind it.
    if any(_NON_FINITE.match(payload, max(0, start)) for start in (position, position - 4)):
        return refusal(Reason.NOT_A_NUMBER, None, text)
    return refusal(Reason.MALFORMED, None, text)


def _explain_validation(refusal: type[InvalidMessage], payload: bytes, text: str) -> InvalidMessage:
    missing = _MISSING.search(text)
    at = _AT.search(text)
    path = at[1] if at else None
    if missing:
        field = f"{path}.{missing[1]}" if path else missing[1]
        return refusal(Reason.MISSING_FIELD, field, text)
    if path == "type" and refusal is InvalidEvent:
        return _explain_tag(refusal, payload, text)
    if text.startswith("Number out of range"):
        return refusal(Reason.NOT_A_NUMBER, path, text)
    if "got `null`" in text:
        return refusal(Reason.NULL_VALUE, path, text)
    if path == "event_time" and refusal is InvalidEvent:
        text = _with_unit(payload, text)
    if "got `" in text or text.startswith("Invalid base64"):
        return refusal(Reason.WRONG_TYPE, path, text)
    return refusal(Reason.OUT_OF_RANGE, path, text)


def _with_unit(payload: bytes, text: str) -> str:
    """What is wrong with an event time, and the unit that its number looks like."""
    raw = bytes(_OBJECTS.decode(payload)["event_time"])
    if len(raw) > _LONGEST_TIME or not _FRACTION.fullmatch(raw):
        return text
    unit = unit_of(int(Decimal(raw.decode())))
    if unit is None:
        return text
    return f"{raw.decode()} looks like {unit}; milliseconds since 1970 are needed ({text})"


def _explain_tag(refusal: type[InvalidMessage], payload: bytes, text: str) -> InvalidMessage:
    try:
        tag = bytes(_TAGS.decode(payload).type)
    except (msgspec.MsgspecError, RecursionError):
        tag = b""
    if tag == b"null":
        return refusal(Reason.NULL_VALUE, "type", text)
    if not text.startswith("Invalid value"):
        return refusal(Reason.WRONG_TYPE, "type", text)
    if tag[1:-1].decode("utf-8", "replace") in TYPE_CODES:
        return refusal(Reason.MALFORMED, "type", "the field is given more than once")
    return refusal(Reason.UNKNOWN_TYPE, "type", text)
