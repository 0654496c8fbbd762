"""Cells of (client, label) and how much a number of a cell says."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.recsys2025.cells import (
    CART,
    FEATURES,
    REMOVED,
    Cells,
    Lift,
    beside,
    contains,
)
from models.evaluation.recsys2025.windows import DAY
from models.history import PURCHASE

NOW = 100 * DAY


def some_cells() -> Cells:
    """Client 0: label 2 bought 3 days ago and carted 14; label 1 removed a day ago. Client 3: 1."""
    return Cells.of(
        row_M=np.array([0, 3, 0, 0]),
        label_M=np.array([2, 1, 2, 1]),
        time_M=NOW - DAY * np.array([14, 28, 3, 1]),
        type_M=np.array([CART, PURCHASE, PURCHASE, REMOVED], np.uint8),
        labels=4,
        now=NOW,
    )


def test_a_cell_counts_what_was_wanted_and_knows_its_latest_event() -> None:
    cells = some_cells()
    assert list(zip(cells.row, cells.label, strict=True)) == [(0, 1), (0, 2), (3, 1)]
    assert cells.count.tolist() == [0, 2, 1]
    assert (cells.age // DAY).tolist() == [1, 3, 28]
    found = dict(zip(FEATURES, cells.features[1].tolist(), strict=True))
    assert found == pytest.approx(
        {
            "log_purchases": np.log(2),
            "log_carts": np.log(2),
            "log_removals": 0,
            "decayed_3d": np.log1p(0.5 + 0.5 ** (14 / 3)),
            "decayed_14d": np.log1p(0.5 + 0.5 ** (3 / 14)),
            "recency": 1 / 4,
        },
        rel=1e-6,
    )


def test_no_events_give_no_cells() -> None:
    nothing = np.empty(0, np.int64)
    cells = Cells.of(nothing, nothing, nothing, nothing.astype(np.uint8), 4, NOW)
    assert len(cells.key) == 0
    assert cells.features.shape == (0, len(FEATURES))
    assert not contains(cells.key, np.array([1, 2])).any()


def test_cells_of_groups_are_spread_over_their_labels() -> None:
    spread = some_cells().spread(np.array([2, -1, 1, 2, 3], np.int16))
    pairs = list(zip(spread.row.tolist(), spread.label.tolist(), strict=True))
    # Group 2 has the labels 0 and 3, group 1 the label 2; group 3 has no cell, -1 is no group.
    assert pairs == [(0, 0), (0, 2), (0, 3), (3, 2)]
    assert (spread.age // DAY).tolist() == [3, 1, 3, 28]
    assert spread.count.tolist() == [2, 0, 2, 1]


def test_cells_stand_beside_others_with_zeros_where_one_has_none() -> None:
    one = some_cells()
    other = Cells(4, one.key[:1] + 7, one.count[:1], one.age[:1], one.features[:1])
    key, features = beside(one, other)
    assert key.tolist() == sorted([*one.key.tolist(), int(other.key[0])])
    width = len(FEATURES)
    at = key.tolist().index(int(other.key[0]))
    assert not features[at, :width].any()
    assert (features[at, width:] == one.features[0]).all()
    assert (features[key.tolist().index(int(one.key[1])), :width] == one.features[1]).all()


def test_lift_is_the_log_odds_over_a_cell_without_events() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat([1, 2], 5_000)
    hits = rng.random(10_000) < np.where(values == 1, 0.1, 0.4)
    lift = Lift.fit(values, hits, cells=1_010_000, positives=int(hits.sum()) + 10_000)
    odds = np.log(np.array([0.1 / 0.9, 0.4 / 0.6]) / (0.01 / 0.99))
    assert lift.of(np.array([1, 2])) == pytest.approx(odds, abs=0.15)


def test_lift_without_any_cell_is_of_empty_ones() -> None:
    lift = Lift.fit(np.empty(0), np.empty(0, np.bool_), cells=1_000, positives=10)
    assert lift.empty == pytest.approx(0, abs=0.2)
    assert len(lift.of(np.empty(0))) == 0
