"""The analyst's features against values counted by hand, and the choice of the penalty."""

from __future__ import annotations

import numpy as np
import pytest

from models.baselines.windowed import DAY, FEATURES, NEVER_DAYS, logistic, windowed_features
from models.history import AMOUNT_UNIT, PURCHASE, REFUND, Events
from models.log.eventlog import EventLog, in_order

VIEW = 1
CUT = 1_700_000_000_000


def log_of(*lines: tuple[int, float, int, float, int]) -> EventLog:
    """(user, days before the cut, type, amount, order id) per event."""
    columns = list(zip(*lines, strict=True))
    size = len(lines)
    events = Events(
        time=CUT - np.round(np.array(columns[1]) * DAY).astype(np.int64),
        id=np.arange(1, size + 1, dtype=np.uint64),
        type=np.array(columns[2], np.uint8),
        item=np.zeros(size, np.uint32),
        category=np.zeros(size, np.uint16),
        amount=np.round(np.array(columns[3]) * AMOUNT_UNIT).astype(np.int64),
        order=np.array(columns[4], np.uint32),
        quantity=np.ones(size, np.uint32),
    )
    return EventLog(np.array(columns[0], np.uint64), events)


def features_of(log: EventLog, user: int = 0) -> dict[str, float]:
    found = windowed_features(in_order(log, None), np.array([user]), np.array([CUT]))
    return dict(zip(FEATURES, np.expm1(found[0]), strict=True))


def test_counts_windows_gaps_and_spend() -> None:
    log = log_of(
        (1, 100, VIEW, 0, 0),
        (1, 95, PURCHASE, 10, 7),
        (1, 95, PURCHASE, 5, 7),  # another line of that order
        (1, 55, PURCHASE, 20, 8),
        (1, 13, PURCHASE, 30, 9),
        (1, 12, REFUND, 30, 9),
        (1, 2, VIEW, 0, 0),
        (1, 0, PURCHASE, 99, 10),  # at the cut: part of the label
    )
    found = features_of(log)
    assert [round(found[f"orders_{days}d"]) for days in (7, 14, 30, 60, 90)] == [0, 1, 1, 2, 2]
    assert round(found["events_7d"]) == 1
    assert round(found["events_14d"]) == 3
    assert found["orders"] == pytest.approx(3)
    assert found["spend_90d"] == pytest.approx(20)
    assert found["spend"] == pytest.approx(35)
    assert found["days_since_order"] == pytest.approx(13)
    assert found["median_gap_days"] == pytest.approx(41)
    assert found["longest_gap_days"] == pytest.approx(42)
    assert found["overdue"] == pytest.approx(13 / 41)


def test_lines_without_an_id_close_together_are_one_order() -> None:
    minute = 1 / 24 / 60
    lines = [(1, 10 - i * 10 * minute, PURCHASE, 1.0, 0) for i in range(5)]
    assert features_of(log_of(*lines, (1, 9, PURCHASE, 1.0, 0)))["orders"] == pytest.approx(2)


def test_without_an_order_times_are_never() -> None:
    found = features_of(log_of((1, 3, VIEW, 0, 0), (2, 1, PURCHASE, 1.0, 0)))
    assert found["days_since_order"] == pytest.approx(NEVER_DAYS)
    assert found["has_order"] == 0


def test_events_after_the_cut_change_nothing() -> None:
    before = [(1, 20.0, PURCHASE, 3.0, 1), (1, 4.0, VIEW, 0.0, 0)]
    assert features_of(log_of(*before)) == features_of(
        log_of(*before, (1, -1.0, PURCHASE, 9.0, 2), (1, -2.0, REFUND, 9.0, 2))
    )


def test_logistic_finds_the_rate_and_chooses_a_penalty() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(4000, 3))
    truth = 1 / (1 + np.exp(-(1.5 * features[:, 0] - 0.5)))
    labels = (rng.random(4000) < truth).astype(np.float64)
    cuts = np.repeat([1, 2, 3, 4], 1000)
    said, penalty = logistic(features[:3000], labels[:3000], cuts[:3000], features[3000:], 0)
    assert np.abs(said - truth[3000:]).mean() < 0.03
    assert penalty > 0.01
