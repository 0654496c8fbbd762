"""No label crosses an edge of the split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.split import CALIBRATION, TRAIN, VALIDATION, TimeSplit
from models.errors import DatasetError


@given(
    st.integers(0, 1000),
    st.integers(1, 300),
    st.integers(0, 20),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
)
def test_every_slice_has_room_for_the_longest_horizon(
    first: int, horizon: int, grace: int, calibration: float, validation: float
) -> None:
    end = first + 3 * (horizon + grace) + 100
    split = TimeSplit.of(first, end, horizon, grace, calibration, validation)
    now = np.arange(first, end + 1)
    which, mature = split.slice_of(now), split.mature(now, horizon)
    assert sorted(set(which[mature].tolist())) == [TRAIN, CALIBRATION, VALIDATION]
    for name in (TRAIN, CALIBRATION, VALIDATION):
        chosen = now[mature & (which == name)]
        following = split.edges[name + 1]
        assert chosen.max() + horizon + grace <= following
        assert chosen.min() >= split.edges[name]


def test_slices_have_their_shares() -> None:
    split = TimeSplit.of(0, 1030, 10, 0, 0.2, 0.3)
    assert split.edges == (0, 510, 720, 1030)


def test_a_horizon_longer_than_the_data_is_refused() -> None:
    hour = 3_600_000
    with pytest.raises(DatasetError, match=r"spans 60\.0 h, too little for a horizon of 24\.0 h"):
        TimeSplit.of(0, 60 * hour, 24 * hour, 0, 0.2, 0.2)
