"""Platt calibration finds the truth, and does no harm on little data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.evaluate import calibration_error, log_loss
from models.fitting.calibrate import IDENTITY, SLOPE_FLOOR, SLOPE_POINTS, Platt, fit_platt


def drawn(slope: float, shift: float, size: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 1.5, size)
    truth = 1 / (1 + np.exp(-(slope * logits + shift)))
    return logits, rng.random(size) < truth


def test_a_bent_model_is_straightened() -> None:
    logits, labels = drawn(0.5, -1.0)
    platt = fit_platt(logits, labels)
    assert platt.slope == pytest.approx(0.5, abs=0.05)
    assert platt.shift == pytest.approx(-1.0, abs=0.05)
    before = Platt(1, 0).probabilities(logits)
    assert calibration_error(labels, platt.probabilities(logits)) < 0.015
    assert log_loss(labels, platt.probabilities(logits)) < log_loss(labels, before) - 0.05


def test_it_is_a_logistic_regression_on_the_logit() -> None:
    logits, labels = drawn(1.3, 0.4)
    reference = LogisticRegression(C=np.inf).fit(logits[:, None], labels)
    platt = fit_platt(logits, labels)
    assert platt.slope == pytest.approx(reference.coef_[0, 0], abs=1e-2)
    assert platt.shift == pytest.approx(reference.intercept_[0], abs=1e-2)


def test_weights_count_like_repeated_points() -> None:
    logits, labels = drawn(0.7, 0.5, 300)
    times = np.random.default_rng(5).integers(1, 4, 300)
    once = fit_platt(logits, labels, times.astype(np.float64))
    many = np.repeat(np.arange(300), times)
    again = fit_platt(logits[many], labels[many])
    assert once.slope == pytest.approx(again.slope, abs=1e-6)
    assert once.shift == pytest.approx(again.shift, abs=1e-6)
    # Also where the slope is at its floor, and only the shift is fitted.
    turned = fit_platt(-4 * logits, labels, times.astype(np.float64))
    again = fit_platt(-4 * logits[many], labels[many])
    assert turned.slope == again.slope == SLOPE_FLOOR
    assert turned.shift == pytest.approx(again.shift, abs=1e-6)


def test_few_points_hardly_move_it() -> None:
    platt = fit_platt(np.array([0.1, -0.2]), np.array([1, 1]))
    assert platt.slope == pytest.approx(1, abs=0.2)
    assert 0 < platt.shift < 0.5
    assert fit_platt(np.array([]), np.array([])) == IDENTITY


def test_few_users_move_the_level_but_not_the_slope() -> None:
    """The slope of 150 labels is noise; their level is not."""
    slopes, shifts = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        logits = rng.normal(-1, 1, 150)
        labels = rng.random(150) < 1 / (1 + np.exp(-(logits - 0.6)))
        free, held = (fit_platt(logits, labels, None, points) for points in (4, SLOPE_POINTS))
        slopes.append((free.slope, held.slope))
        shifts.append(held.shift)
    spread = np.std(slopes, axis=0)
    assert spread[1] < 0.3 * spread[0]
    assert np.mean(slopes, axis=0)[1] == pytest.approx(1, abs=0.05)
    assert np.mean(shifts) == pytest.approx(-0.6, abs=0.15)
    # What many labels tell of the slope, the prior does not hide.
    logits, labels = drawn(0.5, -1.0)
    assert fit_platt(logits, labels, None, SLOPE_POINTS).slope == pytest.approx(0.5, abs=0.05)


def test_a_ranking_is_never_turned_around() -> None:
    logits, labels = drawn(-1.0, 0.0)
    platt = fit_platt(logits, labels)
    assert platt.slope == SLOPE_FLOOR
    assert np.isfinite(platt.shift)


def test_separable_and_huge_logits_converge() -> None:
    logits = np.array([-400.0, -300.0, 300.0, 400.0] * 50)
    platt = fit_platt(logits, logits > 0)
    assert np.isfinite([platt.slope, platt.shift]).all()
    assert np.isfinite(platt.probabilities(logits)).all()
