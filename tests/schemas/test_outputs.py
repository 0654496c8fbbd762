"""Predictions and alerts: ids, round trips and places of faults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from schemas.codec import decode, encode
from schemas.errors import InvalidMessage
from schemas.outputs import (
    AlertReason,
    ChurnAlert,
    NextCategory,
    NextItem,
    Prediction,
    SurvivalPoint,
    TargetScore,
    alert_id,
    prediction_id,
)
from tests.schemas.strategies import durations, sources, texts, times

shares = st.floats(0, 1)
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


@pytest.mark.slow
@given(st.one_of(predictions, alerts))
def test_round_trip(message):
    assert decode(type(message), encode(message)) == message


@pytest.mark.slow
@given(predictions)
def test_a_wait_that_is_not_told_takes_no_bytes(prediction):
    told = b'"expected_wait_ms"' in encode(prediction)
    assert told == (prediction.expected_wait_ms is not UNSET)


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
