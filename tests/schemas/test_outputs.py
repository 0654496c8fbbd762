"""Output messages: ids, round trips, and copies of originals that fit into a Kafka message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from schemas.codec import MAX_EVENT_BYTES, decode, encode
from schemas.errors import InvalidEvent, InvalidMessage, Reason
from schemas.outputs import (
    AlertReason,
    ChurnAlert,
    NextCategory,
    NextItem,
    Prediction,
    Source,
    SurvivalPoint,
    TargetScore,
    alert_id,
    prediction_id,
)
from schemas.refused import MAX_ORIGINAL_BYTES, DeadLetter, LateEvent, dead_letter, late_event
from tests.schemas.strategies import texts, times

SOURCE = Source("shop.events", 3, 41)
KAFKA_DEFAULT_MAX_MESSAGE = 1_048_576

sources = st.builds(Source, texts, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
shares = st.floats(0, 1)
durations = st.integers(0, 2**63 - 1)
predictions = st.builds(
    Prediction,
    prediction_id=texts,
    user_id=texts,
    targets=st.dictionaries(
        texts, st.builds(TargetScore, shares, st.integers(1, 2**62)), max_size=3
    ),
    model_version=texts,
    feature_version=texts,
    state_time=times,
    event_time=times,
    source=sources,
    cold_start=st.booleans(),
    stale=st.booleans(),
    expected_spend=st.none() | st.floats(0, 1e12),
    expected_wait_ms=st.just(UNSET) | durations,
    survival=st.just(UNSET)
    | st.lists(st.builds(SurvivalPoint, st.integers(1, 2**62), shares), max_size=3),
    next_categories=st.just(UNSET) | st.lists(st.builds(NextCategory, texts, shares), max_size=3),
    next_items=st.just(UNSET) | st.lists(st.builds(NextItem, texts, shares), max_size=3),
)
alerts = st.builds(
    ChurnAlert,
    alert_id=texts,
    episode=texts,
    user_id=texts,
    state=st.sampled_from(["raised", "escalated", "resolved", "retracted"]),
    risk=shares,
    silence_ms=durations,
    expected_gap_ms=durations,
    reasons=st.lists(st.builds(AlertReason, texts, st.floats(-1, 1)), max_size=3),
    value_at_risk=st.floats(0, 1e12),
    arm=st.sampled_from(["treatment", "holdout"]),
    holdout_epoch=st.just(UNSET) | st.text(max_size=80),
    cause=st.sampled_from(["behaviour", "silence", "model_change"]),
    model_version=texts,
    event_time=times,
    source=sources,
)
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


@given(st.one_of(predictions, alerts, late_events))
def test_round_trip(message):
    assert decode(type(message), encode(message)) == message


@given(predictions)
def test_a_wait_that_is_not_told_takes_no_bytes(prediction):
    told = b'"expected_wait_ms"' in encode(prediction)
    assert told == (prediction.expected_wait_ms is not UNSET)


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


def test_ids_are_deterministic():
    assert prediction_id("gru-7", "shop.events", 3, 41) == "gru-7:shop.events:3:41"
    assert alert_id("u", "raised", 5) == "u:5:raised"
    assert alert_id("u:5", "raised", 5) != alert_id("u", "raised", 55)


@pytest.mark.parametrize(
    ("text", "reason", "field"),
    [
        (b'"risk":1.5', "out_of_range", "risk"),
        (b'"state":"lost"', "out_of_range", "state"),
        (b'"source":{"topic":"t","partition":-1,"offset":0}', "out_of_range", "source.partition"),
        (b'"source":{"topic":"t","partition":1}', "missing_field", "source.offset"),
        (b'"reasons":[{"feature":"f","change":"x"}]', "wrong_type", "reasons[0].change"),
    ],
)
def test_an_invalid_alert_names_its_field(text, reason, field):
    with pytest.raises(InvalidMessage) as caught:
        decode(ChurnAlert, b"{" + text + b"}")
    assert (caught.value.reason, caught.value.field) == (reason, field)
