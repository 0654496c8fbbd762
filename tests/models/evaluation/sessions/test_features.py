"""Hand-made session features, event by event."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.sessions.features import NAMES, session_features
from models.history import Events
from models.log.eventlog import EventLog, in_order
from schemas.events import EventType

MINUTE = 60_000
GAP = 30 * MINUTE
SEARCH, VIEW, CART, BUY = (
    int(kind) for kind in (EventType.SEARCH, EventType.VIEW, EventType.CART_ADD, EventType.PURCHASE)
)
ROWS = [
    (0, SEARCH, 0, 7),
    (2, VIEW, 1, 7),
    (3, CART, 1, 7),
    (5, VIEW, 2, 8),
    (6, VIEW, 1, 7),
    (60, BUY, 1, 7),
    (61, VIEW, 1, 7),
]


def features(rows: list[tuple[int, int, int, int]]) -> dict[str, list[float]]:
    """Of events (minute, type, item, category) of one user."""
    minute, kind, item, category = (np.array(column) for column in zip(*rows, strict=True))
    size = len(rows)
    events = Events(
        minute.astype(np.int64) * MINUTE + 1_600_000_000_000,
        np.arange(1, size + 1, dtype=np.uint64),
        kind.astype(np.uint8),
        item.astype(np.uint32),
        category.astype(np.uint16),
        np.zeros(size, np.int64),
        np.zeros(size, np.uint32),
        np.ones(size, np.uint32),
    )
    found = session_features(in_order(EventLog(np.ones(size, np.uint64), events), None), GAP)
    return {name: found[:, k].tolist() for k, name in enumerate(NAMES)}


def test_features_follow_the_session() -> None:
    found = features(ROWS)
    assert found["position"] == [1, 2, 3, 4, 5, 1, 2]
    assert found["minutes_in_session"] == [0, 2, 3, 5, 6, 0, 1]
    assert found["in_session_1"] == [0, 1, 1, 2, 3, 0, 1]
    assert found["search_then_view"] == [0, 1, 1, 1, 1, 0, 0]
    assert found["view_then_cart"] == [0, 0, 1, 1, 1, 0, 0]
    assert found["same_item_as_before"] == [0, 0, 1, 0, 0, 0, 1]
    assert found["same_category_as_before"] == [0, 1, 1, 0, 0, 0, 1]
    assert found["item_seen_in_session"] == [0, 0, 1, 0, 2, 0, 1]
    assert found["run_of_category"] == [1, 2, 3, 1, 1, 1, 2]
    assert found["events_since_cart"][2:5] == [0, 1, 2]
    assert np.isnan(found["events_since_cart"][5])


def test_features_of_the_user_reach_over_sessions() -> None:
    found = features(ROWS)
    assert found["cart"] == [0, 0, 1, 1, 1, 1, 0]
    assert found["item_in_cart"] == [0, 0, 0, 0, 1, 1, 0]
    assert found["past_sessions"] == [0] * 5 + [1, 1]
    assert found["past_purchases"] == [0] * 6 + [1]
    assert found["days_since_session"][5:] == pytest.approx([54 / 1440, 54 / 1440 + 1 / 1440])
    assert found["days_since_purchase"][6] == pytest.approx(1 / 1440)


def test_a_feature_knows_nothing_of_later_events() -> None:
    whole = features(ROWS)
    for size in range(1, len(ROWS)):
        cut = features(ROWS[:size])
        for name in NAMES:
            if name != "category":  # the rank of a code follows its count in the whole log
                assert np.array_equal(cut[name], whole[name][:size], equal_nan=True), name
