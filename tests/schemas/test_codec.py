"""Valid messages survive a round trip; anything else is one `InvalidEvent` with its reason."""

from __future__ import annotations

import contextlib
import json
import pickle
import time

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.codec import MAX_DEPTH, MAX_EVENT_BYTES, decode, decode_event, encode, validate_key
from schemas.control import ModelPublished
from schemas.errors import InvalidEvent, InvalidMessage, Reason
from schemas.events import Event, Purchase, View
from tests.schemas.strategies import events

BASE = b'{"type":"view","event_id":"e","user_id":"u","event_time":5%s}'


def event_with(fields: bytes) -> bytes:
    return BASE % (b"," + fields)


def nested(depth: int) -> bytes:
    # The event itself is the first level.
    return event_with(b'"x":' + b"[" * (depth - 1) + b"]" * (depth - 1))


BAD = {
    "tombstone": (None, "null_value", None),
    "empty": (b"", "truncated", None),
    "cut in a string": (b'{"type":"vi', "truncated", None),
    "cut after a field": (BASE[:40], "truncated", None),
    "cut in a long event": (event_with(b'"query":"' + b"x" * 3000), "truncated", None),
    "text": (b"hello", "malformed", None),
    "zero bytes": (b"\0" * 64, "malformed", None),
    "two documents": (BASE % b"" + b"{}", "malformed", None),
    "byte order mark": (b"\xef\xbb\xbf" + BASE % b"", "malformed", None),
    "single quotes": (b"{'type':'view'}", "malformed", None),
    "raw newline": (event_with(b'"item_id":"a\nb"'), "malformed", None),
    "type twice": (event_with(b'"type":"purchase"'), "malformed", "type"),
    "latin-1": (event_with(b'"item_id":"caf\xe9"'), "not_utf8", None),
    "latin-1 in properties": (event_with(b'"properties":{"a":"caf\xe9"}'), "not_utf8", None),
    "latin-1 in an unknown field": (event_with(b'"x":"caf\xe9"'), "not_utf8", None),
    "surrogate bytes": (event_with(b'"item_id":"\xed\xa0\x80"'), "not_utf8", None),
    "escaped lone surrogate": (event_with(b'"item_id":"\\ud800"'), "not_utf8", None),
    "escaped lone low surrogate": (event_with(b'"item_id":"x\\udc00"'), "not_utf8", None),
    "two first halves of a pair": (event_with(b'"item_id":"\\ud800\\ud800"'), "not_utf8", None),
    "half a pair before text": (
        event_with(b'"item_id":"\\ud800 and something longer"'),
        "not_utf8",
        None,
    ),
    "cut between the halves of a pair": (event_with(b'"item_id":"\\ud800')[:-1], "truncated", None),
    "UTF-16": ((BASE % b"").decode().encode("utf-16"), "not_utf8", None),
    "NaN": (event_with(b'"price":NaN'), "not_a_number", None),
    "lower-case nan": (event_with(b'"price":nan'), "not_a_number", None),
    "inf": (event_with(b'"price":inf'), "not_a_number", None),
    "NaN in properties": (event_with(b'"properties":{"a":NaN}'), "not_a_number", None),
    "Infinity": (event_with(b'"price":Infinity'), "not_a_number", None),
    "-Infinity": (event_with(b'"price":-Infinity'), "not_a_number", None),
    "1e999": (event_with(b'"price":1e999'), "not_a_number", "price"),
    "-1e999": (event_with(b'"price":-1e999'), "not_a_number", "price"),
    "1e999 as a time": (BASE.replace(b"5%s", b"1e999"), "not_a_number", "event_time"),
    "no type": (b'{"event_id":"e","user_id":"u","event_time":5}', "missing_field", "type"),
    "no fields": (b"{}", "missing_field", "type"),
    "no event_id": (b'{"type":"view","user_id":"u","event_time":5}', "missing_field", "event_id"),
    "no user_id": (b'{"type":"view","event_id":"e","event_time":5}', "missing_field", "user_id"),
    "no time": (b'{"type":"view","event_id":"e","user_id":"u"}', "missing_field", "event_time"),
    "array": (b"[]", "wrong_type", None),
    "number": (b"5", "wrong_type", None),
    "string": (b'"view"', "wrong_type", None),
    "time as text": (BASE.replace(b"5%s", b'"5"'), "wrong_type", "event_time"),
    "time as a fraction": (BASE.replace(b"5%s", b"5.5"), "wrong_type", "event_time"),
    "time as a boolean": (BASE.replace(b"5%s", b"true"), "wrong_type", "event_time"),
    "user as a number": (BASE.replace(b'"u"', b"7") % b"", "wrong_type", "user_id"),
    "price as text": (event_with(b'"price":"1.5"'), "wrong_type", "price"),
    "properties as an array": (event_with(b'"properties":[1]'), "wrong_type", "properties"),
    "type as a number": (BASE.replace(b'"view"', b"1") % b"", "wrong_type", "type"),
    "unknown type": (BASE.replace(b"view", b"wink") % b"", "unknown_type", "type"),
    "type in capitals": (BASE.replace(b"view", b"View") % b"", "unknown_type", "type"),
    "null document": (b"null", "null_value", None),
    "null type": (BASE.replace(b'"view"', b"null") % b"", "null_value", "type"),
    "null user": (BASE.replace(b'"u"', b"null") % b"", "null_value", "user_id"),
    "null time": (BASE.replace(b"5%s", b"null"), "null_value", "event_time"),
    "too large": (event_with(b'"x":"' + b"y" * MAX_EVENT_BYTES + b'"'), "too_large", None),
    "one level too deep": (nested(MAX_DEPTH + 1), "too_deep", None),
    "100,000 open brackets": (b"[" * 100_000, "too_deep", None),
    "100,000 open fields": (event_with(b'"x":' + b'{"a":' * 100_000), "too_deep", None),
    "100,000 levels in properties": (
        event_with(b'"properties":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "too_deep",
        None,
    ),
    "deep type": (b'{"type":' + b"[" * 100_000, "too_deep", None),
    "negative price": (event_with(b'"price":-0.01'), "out_of_range", "price"),
    "price over the bound": (event_with(b'"price":1e10'), "out_of_range", "price"),
    "quantity zero": (event_with(b'"quantity":0'), "out_of_range", "quantity"),
    "quantity beyond 64 bits": (event_with(b'"quantity":' + b"9" * 30), "out_of_range", "quantity"),
    "quantity of 5,000 digits": (
        event_with(b'"quantity":' + b"9" * 5000),
        "out_of_range",
        "quantity",
    ),
    "empty user": (BASE.replace(b'"u"', b'""') % b"", "out_of_range", "user_id"),
    "long user": (BASE.replace(b'"u"', b'"%s"' % (b"u" * 257)) % b"", "out_of_range", "user_id"),
    "time zero": (BASE.replace(b"5%s", b"0"), "out_of_range", "event_time"),
    "negative time": (BASE.replace(b"5%s", b"-5"), "out_of_range", "event_time"),
    "time in microseconds": (
        BASE.replace(b"5%s", b"1700000000000000"),
        "out_of_range",
        "event_time",
    ),
}


@pytest.mark.parametrize(("payload", "reason", "field"), BAD.values(), ids=BAD.keys())
def test_bad_input_has_a_stable_reason(payload, reason, field):
    started = time.thread_time()
    with pytest.raises(InvalidEvent) as caught:
        decode_event(payload)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert caught.value.detail
    assert time.thread_time() - started < 1.0


GOOD = {
    "null in optional fields": event_with(b'"price":null,"item_id":null,"properties":null'),
    "unknown fields": event_with(b'"x":{"y":[1,2]},"z":null'),
    "surrogate pair": event_with(b'"item_id":"\\ud83d\\ude00"'),
    "escaped backslash before a u": event_with(b'"item_id":"\\\\ud800"'),
    "type last": b'{"event_id":"e","user_id":"u","event_time":5,"type":"view"}',
    "deepest nesting": nested(MAX_DEPTH),
    "brackets in text": event_with(b'"query":"' + b"[{" * 2000 + b'"'),
    "escaped quotes and brackets": event_with(b'"query":"' + rb"\"[" * 600 + b'"'),
    "many brackets, none deep": event_with(b'"x":[' + b",".join([b"[]"] * 5000) + b"]"),
    "white space": b" " + (BASE % b"") + b"\n",
}


@pytest.mark.parametrize("payload", GOOD.values(), ids=GOOD.keys())
def test_unusual_but_valid(payload):
    assert isinstance(decode_event(payload), View)


def test_the_size_bound_is_inclusive_and_a_parameter():
    payload = BASE % b""
    assert decode_event(payload, max_bytes=len(payload)).user_id == "u"
    with pytest.raises(InvalidEvent) as caught:
        decode_event(payload, max_bytes=len(payload) - 1)
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_megabyte_of_brackets_is_judged_quickly():
    payload = event_with(b'"x":[' + b",".join([b"[]"] * 340_000) + b"]")
    started = time.thread_time()
    decode_event(payload)
    assert time.thread_time() - started < 1.0


@pytest.mark.slow
@given(events)
def test_event_round_trip(event: Event):
    again = decode_event(encode(event))
    # Raw values compare by identity, so compare what they encode to.
    assert encode(again) == encode(event)
    assert type(again) is type(event)
    plain = {name: getattr(event, name) for name in event.__struct_fields__ if name != "properties"}
    assert {name: getattr(again, name) for name in plain} == plain


@pytest.mark.slow
@given(events, st.data())
def test_any_cut_of_an_event_is_refused_and_never_crashes(event: Event, data):
    payload = encode(event)
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    with pytest.raises(InvalidEvent) as caught:
        decode_event(cut)
    # A cut inside a multi-byte character, or after the escape of half a pair, is no UTF-8 either.
    assert caught.value.reason in {Reason.TRUNCATED, Reason.NOT_UTF8, Reason.MALFORMED}


@pytest.mark.slow
@given(events, st.data())
def test_a_corrupted_event_never_raises_anything_else(event: Event, data):
    payload = bytearray(encode(event))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    never_raises_anything_else(bytes(payload))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
field_names = st.sampled_from(["type", *View.__struct_fields__])


@pytest.mark.slow
@given(st.binary(max_size=400))
@example(b'{"type":')
@example(b'{"type":"view","event_id":"\\')
def test_any_bytes_never_raise_anything_else(payload: bytes):
    never_raises_anything_else(payload)


@pytest.mark.slow
@given(events, field_names, json_values)
def test_any_value_in_any_field_never_raises_anything_else(event: Event, field, value):
    document = json.loads(encode(event)) | {field: value}
    never_raises_anything_else(json.dumps(document).encode("utf-8", "surrogatepass"))
    never_raises_anything_else(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))


def never_raises_anything_else(payload: bytes) -> None:
    with contextlib.suppress(InvalidEvent):
        event = decode_event(payload)
        assert decode_event(encode(event)).user_id == event.user_id
        validate_key(event.user_id.encode(), event.user_id)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "key_missing"),
        (b"", "key_missing"),
        (b"other", "key_mismatch"),
        (b'"u"', "key_mismatch"),
        (b"\xff\xfe", "key_mismatch"),
        (b"u\0", "key_mismatch"),
    ],
)
def test_a_key_that_is_not_the_user(key, reason):
    with pytest.raises(InvalidEvent) as caught:
        validate_key(key, "u")
    assert caught.value.reason == reason
    assert caught.value.field == "user_id"


def test_the_key_is_the_user_in_utf8():
    validate_key("zoë".encode(), "zoë")
    with pytest.raises(InvalidEvent):
        validate_key("zoë".encode("latin-1"), "zoë")


def test_absent_quantity_is_one_and_events_are_immutable():
    event = decode_event(BASE % b"")
    assert event.quantity == 1
    with pytest.raises(AttributeError):
        event.user_id = "v"


def test_properties_stay_unparsed():
    event = decode_event(event_with(b'"properties":{"campaign":{"id":[1, 2]}}'))
    assert event.properties is not None
    assert bytes(event.properties["campaign"]) == b'{"id":[1, 2]}'


def test_other_messages_decode_with_the_same_reasons():
    with pytest.raises(InvalidMessage) as caught:
        decode(ModelPublished, b'{"version":"../../etc"}')
    assert (caught.value.reason, caught.value.field) == (Reason.OUT_OF_RANGE, "version")
    with pytest.raises(InvalidMessage) as caught:
        decode(ModelPublished, None)
    assert caught.value.reason is Reason.NULL_VALUE
    with pytest.raises(InvalidMessage) as caught:
        decode(ModelPublished, b"[" * 100_000)
    assert caught.value.reason is Reason.TOO_DEEP


def test_invalid_events_survive_pickling():
    invalid = InvalidEvent(Reason.FUTURE, "event_time", "two days ahead")
    again = pickle.loads(pickle.dumps(invalid))  # noqa: S301 - our own bytes
    assert (again.reason, again.field, again.detail) == ("future", "event_time", "two days ahead")
    assert str(again) == "future (field event_time): two days ahead"


def test_an_event_is_json_that_any_client_can_write():
    event = Purchase(event_id="e", user_id="u", event_time=5, price=2.5, quantity=3)
    assert msgspec.json.decode(encode(event)) == {
        "type": "purchase",
        "event_id": "e",
        "user_id": "u",
        "event_time": 5,
        "price": 2.5,
        "quantity": 3,
    }
