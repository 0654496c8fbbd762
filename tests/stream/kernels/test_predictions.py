"""The kernel's predictions are the bytes that msgspec writes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from models.history import AMOUNT_UNIT
from schemas.codec import decode, encode
from schemas.outputs import Prediction, Source, SurvivalPoint, TargetScore, prediction_id
from stream.kernels.buffers import cut, joined
from stream.kernels.predictions import (
    DIGITS,
    Predictions,
    pattern_of,
    room_for,
    write_predictions,
)

pytestmark = pytest.mark.slow

UNITS = 10**DIGITS
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


def blank(**changes: object) -> Prediction:
    fields: dict[str, object] = {
        "prediction_id": "",
        "user_id": "",
        "targets": {"purchase": TargetScore(0, 7), "churn": TargetScore(0, 30)},
        "model_version": "gru-1",
        "feature_version": "1",
        "state_time": 0,
        "event_time": 0,
        "source": Source("", 0, 0),
    }
    return Prediction(**{**fields, **changes})  # type: ignore[arg-type]


def waiting(**changes: object) -> Prediction:
    points = [SurvivalPoint(9, 0.0), SurvivalPoint(99, 0.0), SurvivalPoint(10**11, 0.0)]
    return blank(expected_wait_ms=0, survival=points, expected_spend=0.0, **changes)


def written(
    like: Prediction,
    topic: str,
    rows: list[tuple[object, ...]],
    waits: tuple[int, ...] = (),
    spend: tuple[int, ...] = (),
    own: tuple[tuple[int, ...], ...] = (),
) -> list[bytes | None]:
    """What the kernel writes for (user, offset, state time, event time, scores, cold, automated);
    None where it says that it cannot."""
    users, offsets, states, times, scores, cold, automated = zip(*rows, strict=True)
    columns = Predictions(
        *joined([user.encode() for user in users]),
        *(np.array(column, np.int64) for column in (offsets, states, times, scores)),
        *(np.array(column, np.bool_) for column in (cold, automated)),
        np.array(waits, np.int64),
        np.array(spend, np.int64),
        np.array(own, np.int64).reshape(len(rows), -1),
    )
    pattern = pattern_of(like, topic, 3)
    ends = np.empty(len(rows), np.int64)
    out = room_for(pattern, columns)
    odd = write_predictions(pattern, columns, out, ends)
    return [None if o else v for o, v in zip(odd.tolist(), cut(out, ends), strict=True)]


def wanted(
    like: Prediction,
    topic: str,
    row: tuple[object, ...],
    wait: int | UnsetType = UNSET,
    spend: int | None = None,
) -> bytes:
    user, offset, state, time, scores, cold, automated = row
    horizons = [(name, score.horizon_ms) for name, score in like.targets.items()]
    survival = like.survival
    if survival is not UNSET:
        after = zip(survival, scores[len(horizons) :], strict=True)
        survival = [SurvivalPoint(point.horizon_ms, units / UNITS) for point, units in after]
    return encode(
        Prediction(
            prediction_id=prediction_id(like.model_version, topic, 3, offset),
            user_id=user,
            targets={
                name: TargetScore(units / UNITS, horizon)
                for (name, horizon), units in zip(horizons, scores, strict=False)
            },
            expected_spend=None if spend is None else spend / AMOUNT_UNIT,
            expected_wait_ms=wait,
            survival=survival,
            model_version=like.model_version,
            feature_version=like.feature_version,
            state_time=state,
            event_time=time,
            source=Source(topic, 3, offset),
            cold_start=cold,
            stale=like.stale,
            automated=automated,
        )
    )


units = st.integers(0, UNITS) | st.integers(0, 2000) | st.sampled_from([0, 1, UNITS - 1, UNITS])
waits = st.integers(0, 2**62)
amounts = st.integers(0, 10**13) | st.integers(0, 30_000) | st.sampled_from([0, 1, 10**9])
rows = st.tuples(
    names,
    st.integers(0, 2**62),
    st.integers(1, 253_402_300_799_999),
    st.integers(1, 253_402_300_799_999),
    st.tuples(units, units),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(rows, min_size=1, max_size=20), names, names, st.booleans())
def test_the_bytes_are_msgspecs(
    drawn: list[tuple[object, ...]],
    version: str,
    topic: str,
    stale: bool,
) -> None:
    like = blank(model_version=version, stale=stale)
    for found, row in zip(written(like, topic, drawn), drawn, strict=True):
        want = wanted(like, topic, row)
        if found is None:
            assert b"\\" in want
        else:
            assert found == want
            assert decode(Prediction, found).user_id == row[0]


@settings(max_examples=100, deadline=None, database=None)
@given(
    st.lists(
        st.tuples(rows, st.tuples(units, units, units), waits, amounts), min_size=1, max_size=9
    ),
    names,
)
def test_the_bytes_are_msgspecs_with_waits_and_amounts_too(
    drawn: list[tuple[tuple[object, ...], tuple[int, ...], int, int]], version: str
) -> None:
    like = waiting(model_version=version)
    whole = [(*row[:4], (*row[4], *after), *row[5:]) for row, after, *_ in drawn]
    *_, waited, spent = zip(*drawn, strict=True)
    found = written(like, "t", whole, waited, spent)
    for value, row, (*_, wait, spend) in zip(found, whole, drawn, strict=True):
        want = wanted(like, "t", row, wait, spend)
        assert value == want if value is not None else b"\\" in want


def test_horizons_of_users_own() -> None:
    """Where the blank's horizon is 0 each prediction has its own."""
    fixed = {"purchase": TargetScore(0, 7)}
    like = blank(targets={**fixed, "churn": TargetScore(0, 0)})
    drawn = [(f"u{i}", i, 6, 7, (1, 2), True, False) for i in range(3)]
    ahead = (1, 86_400_000, 10**15)
    for found, row, one in zip(
        written(like, "t", drawn, own=tuple((one,) for one in ahead)), drawn, ahead, strict=True
    ):
        with_horizon = blank(targets={**fixed, "churn": TargetScore(0, one)})
        assert found == wanted(with_horizon, "t", row)


def test_every_small_and_every_round_probability() -> None:
    scores = [*range(3000), *range(0, UNITS + 1, 12_345), *range(0, UNITS + 1, 100_000)]
    drawn = [("u", 1, 1, 1, (score, UNITS - score), False, False) for score in scores]
    like = blank()
    assert written(like, "t", drawn) == [wanted(like, "t", row) for row in drawn]


@pytest.mark.parametrize(
    ("version", "topic"),
    [
        (str(10**15), "shop"),
        ("v", f"x{10**15}"),
        ('"user_id":"u"', '"state_time":1'),
        ('\\"probability":0.5', '"cold_start":false'),
        ('"expected_wait_ms":1', '"expected_spend":3.5'),
    ],
)
def test_names_that_look_like_marks(version: str, topic: str) -> None:
    like = blank(model_version=version)
    row = ("u", 5, 6, 7, (1, 2), True, False)
    assert written(like, topic, [row]) == [wanted(like, topic, row)]
    like = waiting(model_version=version)
    row = ("u", 5, 6, 7, (1, 2, 3, 4, 5), True, False)
    assert written(like, topic, [row], (8,), (35_000,)) == [wanted(like, topic, row, 8, 35_000)]


def test_other_targets() -> None:
    like = blank(targets={"one": TargetScore(0, 1)})
    row = ("ann", 5, 6, 7, (1234567,), False, True)
    assert written(like, "t", [row]) == [wanted(like, "t", row)]
