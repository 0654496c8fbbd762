"""The figures equal scikit-learn's, ties and all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from models.evaluate import (
    RecencyBaseline,
    brier,
    calibration_error,
    figures,
    log_loss,
    pr_auc,
    roc_auc,
)

outcomes = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.01, 0.2, 0.2001, 0.5, 0.9, 1.0])),
    min_size=2,
    max_size=60,
)


@pytest.mark.slow
@given(outcomes)
def test_figures_equal_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    y = np.array([label for label, _ in pairs], int)
    p = np.array([score for _, score in pairs])
    assert brier(y, p) == pytest.approx(float(np.mean((p - y) ** 2)))
    clipped = np.clip(p, 1e-7, 1 - 1e-7)
    assert log_loss(y, p) == pytest.approx(metrics.log_loss(y, clipped, labels=[0, 1]))
    if y.any():
        assert pr_auc(y, p) == pytest.approx(metrics.average_precision_score(y, p))
    else:
        assert math.isnan(pr_auc(y, p))
    if y.any() and not y.all():
        assert roc_auc(y, p) == pytest.approx(metrics.roc_auc_score(y, p))
    else:
        assert math.isnan(roc_auc(y, p))


def test_calibration_error_is_zero_when_rates_match_and_large_when_they_do_not() -> None:
    p = np.repeat([0.1, 0.7], 100)
    y = np.concatenate([np.arange(100) < 10, np.arange(100) < 70])
    assert calibration_error(y, p) == pytest.approx(0, abs=1e-12)
    assert calibration_error(~y, p) == pytest.approx((0.8 + 0.4) / 2)
    assert calibration_error(np.array([1]), np.array([1.0])) == 0


def test_all_figures_of_a_target() -> None:
    found = figures(np.array([0, 1, 1, 0]), np.array([0.1, 0.8, 0.6, 0.3]))
    assert found["roc_auc"] == 1
    assert found["base_rate"] == 0.5
    assert found["points"] == 4


def test_recency_baseline_learns_a_falling_rate() -> None:
    rng = np.random.default_rng(0)
    silence = rng.uniform(0, 10, 5000)
    labels = rng.random(5000) < 0.9 - 0.08 * silence
    baseline = RecencyBaseline.fit(silence, labels)
    early, late = baseline.predict(np.array([0.2, 9.8]))
    assert early == pytest.approx(0.88, abs=0.06)
    assert late == pytest.approx(0.12, abs=0.06)


def test_recency_baseline_of_a_constant_is_the_base_rate() -> None:
    baseline = RecencyBaseline.fit(np.zeros(10), np.arange(10) < 3)
    assert baseline.predict(np.array([0.0, 99.0])) == pytest.approx([0.3, 0.3])
