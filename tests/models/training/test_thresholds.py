"""The threshold is the lowest whose alerts have the precision, as a walk through timers says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.dataset import DatasetConfig
from models.fitting.fit import FitConfig
from models.serving.recalibration import BetaMap, Recalibration, Recalibrator
from models.serving.thresholds import (
    Budget,
    InEffect,
    RaiseAt,
    Wanted,
    in_effect,
    threshold_of,
)
from models.targets import shop_targets
from models.training import thresholds
from models.training.thresholds import Looks, find_threshold, wilson
from models.training.train import TrainConfig, train
from tests.logs import gru_scorer
from tests.models.data.test_timers import RULES
from tests.models.shop import DAY, PURCHASE, START, shop_log


def looks(rows: list[tuple[int, int, float, int, bool]]) -> Looks:
    """Of (user, orders, risk, gone, counts), in order of time."""
    user, orders, risk, gone, counts = zip(*rows, strict=True)
    return Looks(
        np.array(user, np.uint64),
        np.array(orders),
        np.arange(len(rows)),
        np.array(risk, np.float64),
        np.array(gone, np.float64),
        np.array(counts, np.bool_),
    )


def walked(rows: list[tuple[int, int, float, int, bool]], threshold: float) -> list[int]:
    """Of the alerts that count whether each was right."""
    alerted: set[tuple[int, int]] = set()
    right = []
    for user, orders, risk, gone, counts in rows:
        if risk >= threshold and (user, orders) not in alerted:
            alerted.add((user, orders))
            if counts:
                right.append(gone)
    return right


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(2, 3),
        st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8]),
        st.integers(0, 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, database=None)
@given(ROWS, st.sampled_from([0.3, 0.5, 0.9]))
def test_the_lowest_with_the_precision(
    rows: list[tuple[int, int, float, int, bool]], precision: float
) -> None:
    fewest, thresholds.FEWEST = thresholds.FEWEST, 2  # type: ignore[misc]
    try:
        found = find_threshold(looks(rows), precision)
    finally:
        thresholds.FEWEST = fewest  # type: ignore[misc]
    fits = []
    for threshold in (0.1, 0.2, 0.3, 0.5, 0.8):
        right = walked(rows, threshold)
        if len(right) >= 2 and np.mean(right) >= precision:
            fits.append((threshold, len(right), float(np.mean(right))))
    if found.risk is None:
        assert found.why
        assert not fits
    else:
        # Thresholds between two risks raise the same alerts as the higher one.
        lowest = min(fits)
        assert (found.alerts, found.right) == pytest.approx(lowest[1:])
        assert walked(rows, found.risk) == walked(rows, lowest[0])
        assert found.low <= found.right <= found.high


def test_few_alerts_or_an_unreachable_precision_give_none_and_say_so() -> None:
    few = find_threshold(looks([(1, 2, 0.5, 1, True)] * 3), 0.5)
    assert few.risk is None
    assert "at least 50" in few.why
    never = find_threshold(looks([(user, 2, 0.5, 0, True) for user in range(90)]), 0.5)
    assert never.risk is None
    assert "the best has 0.000" in never.why


def test_the_interval_is_wilsons() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 50)[1] == 1.0


@pytest.mark.slow
def test_the_trainer_finds_it_and_the_precision_holds_on_later_alerts() -> None:
    log = shop_log(users=700, days=160, seed=3)
    targets = shop_targets(PURCHASE, 3 * DAY, 10 * DAY)
    until = START + 120 * DAY
    config = TrainConfig(
        dataset=DatasetConfig(history_length=16, min_points=50, timers=RULES),
        fit=FitConfig(epochs=3, patience=2, windows=64),
        hidden_size=16,
        candidates=("logistic",),
        target_precision=0.6,
    )
    early = log.where(log.events.time < until)
    trained = train(early, targets, config, created_at=until, device="cpu")
    found = trained.manifest.raise_at
    assert found is not None
    assert found.risk is not None, found.why
    assert found.precision == 0.6
    assert found.right >= 0.6
    assert found.alerts >= 50
    assert "raised from a risk of" in trained.card.documents()["card.md"].decode()


@pytest.mark.slow
def test_a_map_carries_the_models_threshold_and_its_own_comes_first() -> None:
    scorer, wanted = gru_scorer(), Wanted(precision=0.7)
    scorer.raise_at = RaiseAt(0.7, 0.5)
    assert threshold_of(scorer, wanted, 0.9) == 0.5
    assert threshold_of(scorer, Wanted(precision=0.8), 0.9) is None, "learnt for another precision"
    parts = {"version": "r", "model_version": "m", "model_digest": "", "created_at": 1, "until": 1}
    bent = {"timer": {"churn": BetaMap(1.0, 1.0, 1.0)}}
    mapped = Recalibration(**parts, window_ms=1, maps=bent)
    scorer.recalibration = Recalibrator(mapped, scorer.targets)
    assert threshold_of(scorer, wanted, 0.9) == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)
    own = Recalibration(**parts, window_ms=1, maps=bent, raise_at=RaiseAt(0.7, 0.61))
    scorer.recalibration = Recalibrator(own, scorer.targets)
    assert threshold_of(scorer, wanted, 0.9) == 0.61
    none = Recalibration(**parts, window_ms=1, raise_at=RaiseAt(0.7, None, "few"))
    scorer.recalibration = Recalibrator(none, scorer.targets)
    assert threshold_of(scorer, wanted, 0.9) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precise", "counted", "expected"),
    [(0.5, 0.6, 0.6), (0.6, 0.5, 0.6), (None, 0.5, 0.55), (0.6, None, 0.6), (None, None, None)],
)
def test_of_both_the_stricter_holds_and_the_setting_for_one(
    precise: float | None, counted: float | None, expected: float | None
) -> None:
    scorer = gru_scorer()
    scorer.raise_at = RaiseAt(0.7, precise, budget=Budget(3, counted))
    assert threshold_of(scorer, Wanted(0.7, 3), 0.55) == expected
    assert threshold_of(scorer, Wanted(None, 3), 0.55) == counted
    assert threshold_of(scorer, Wanted(None, 4), 0.55) is None, "learnt for another budget"


@pytest.mark.slow
def test_what_is_in_effect_says_by_what_and_how_many() -> None:
    scorer, both = gru_scorer(), Wanted(0.7, 3)
    assert in_effect(scorer, both, 0.55) == InEffect(0.55, "setting")
    scorer.raise_at = RaiseAt(0.7, 0.5, budget=Budget(3, 0.6, expected=2.9), bound="budget")
    assert in_effect(scorer, both, 0.55) == InEffect(0.6, "budget", 2.9)
    assert in_effect(scorer, Wanted(), 0.55) == InEffect(0.55, "setting")
    assert in_effect(scorer, Wanted(0.7), 0.55) == InEffect(0.5, "precision")
    scorer.raise_at = RaiseAt(0.7, None, budget=Budget(3, 0.5, expected=2.9), bound="budget")
    assert in_effect(scorer, both, 0.55) == InEffect(0.55, "setting")
