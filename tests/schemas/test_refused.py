"""Messages about events that do not count: round trips, and originals that fit into Kafka."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import MAX_EVENT_BYTES, decode, encode
from schemas.errors import InvalidEvent, Reason
from schemas.outputs import Source
from schemas.refused import MAX_ORIGINAL_BYTES, DeadLetter, LateEvent, dead_letter, late_event
from tests.schemas.strategies import durations, sources, texts, times

SOURCE = Source("shop.events", 3, 41)
KAFKA_DEFAULT_MAX_MESSAGE = 1_048_576

late_events = st.builds(
    LateEvent,
    user_id=texts,
    event_id=texts,
    event_time=times,
    late_by_ms=durations,
    source=sources,
    value=st.binary(max_size=100),
)
invalids = st.builds(
    InvalidEvent, st.sampled_from(list(Reason)), st.none() | texts, st.text(max_size=50)
)


@given(late_events)
def test_round_trip(message):
    assert decode(LateEvent, encode(message)) == message


@given(sources, st.none() | st.binary(), st.none() | st.binary(), invalids)
def test_a_dead_letter_keeps_the_original_bytes(source, key, value, cause):
    letter = decode(DeadLetter, encode(dead_letter(source, key, value, cause, 5)))
    assert (letter.key, letter.value, letter.size) == (key, value, len(value or b""))
    assert (letter.reason, letter.field, letter.detail) == (cause.reason, cause.field, cause.detail)
    assert not letter.clipped


def test_the_largest_dead_letter_fits_into_a_default_kafka_message():
    cause = InvalidEvent(Reason.TOO_LARGE, None, "x" * 200)
    value = b"\xff" * 5_000_000
    letter = dead_letter(SOURCE, b"k" * 1_000_000, value, cause, 5)
    assert letter.clipped
    assert letter.size == len(value)
    assert letter.value == value[:MAX_ORIGINAL_BYTES]
    assert letter.key is not None
    assert len(encode(letter)) + len(letter.key) < KAFKA_DEFAULT_MAX_MESSAGE


def test_the_largest_late_event_fits_into_a_default_kafka_message():
    value = b"\xff" * MAX_EVENT_BYTES
    late = late_event(SOURCE, "\U0001f600" * 256, "\n" * 256, 5, 6, value)
    assert late.clipped
    assert late.size == len(value)
    assert late.value == value[:MAX_ORIGINAL_BYTES]
    assert len(encode(late)) + len(late.user_id.encode()) < KAFKA_DEFAULT_MAX_MESSAGE
    assert not late_event(SOURCE, "u", "e", 5, 6, value[:MAX_ORIGINAL_BYTES]).clipped


def test_a_tombstone_is_told_from_an_empty_value():
    cause = InvalidEvent(Reason.NULL_VALUE)
    assert dead_letter(SOURCE, None, None, cause).value is None
    assert dead_letter(SOURCE, None, b"", cause).value == b""
