"""A beta map is found again from labels, strictly increases, and stays where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from models.fitting.beta import fit_beta
from models.serving.recalibration import IDENTITY, SLOPE_FLOOR, BetaMap


def bent(p: np.ndarray, one: BetaMap) -> np.ndarray:
    return 1 / (1 + np.exp(-(one.a * np.log(p) - one.b * np.log1p(-p) + one.c)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "known", [BetaMap(0.5, 1.5, -0.3), BetaMap(1.6, 0.4, 0.8), BetaMap(1.0, 1.0, -1.0)]
)
def test_a_known_map_is_found(known: BetaMap) -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.01, 0.99, 60_000)
    labels = rng.random(len(p)) < bent(p, known)
    found = fit_beta(p, labels, np.ones(len(p)))
    assert found.a == pytest.approx(known.a, abs=0.07)
    assert found.b == pytest.approx(known.b, abs=0.07)
    assert found.c == pytest.approx(known.c, abs=0.07)


def test_weights_count_like_repeated_labels() -> None:
    rng = np.random.default_rng(2)
    p, labels = rng.uniform(0.05, 0.95, 400), rng.integers(0, 2, 400)
    times = rng.integers(1, 4, 400)
    once = fit_beta(p, labels, times.astype(np.float64))
    many = np.repeat(np.arange(400), times)
    again = fit_beta(p[many], labels[many], np.ones(len(many)))
    assert (once.a, once.b, once.c) == pytest.approx((again.a, again.b, again.c), abs=1e-6)


def test_a_ranking_turned_around_is_not_turned_back() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(0.05, 0.95, 5000)
    found = fit_beta(p, rng.random(5000) < 1 - p, np.ones(5000))
    assert found.a == found.b == SLOPE_FLOOR
    mapped = bent(np.sort(p), found)
    assert (np.diff(mapped) > 0).all()
    # With the slopes at their floor the constant still meets the rate.
    assert mapped.mean() == pytest.approx(0.5, abs=0.02)


def test_without_labels_it_is_the_identity_and_few_hardly_bend_it() -> None:
    none = np.zeros(0)
    assert fit_beta(none, none, none) == IDENTITY
    few = fit_beta(np.array([0.2, 0.3]), np.array([1.0, 1.0]), np.ones(2))
    assert max(abs(few.a - 1), abs(few.b - 1), abs(few.c)) < 0.4


def test_probabilities_of_zero_and_one_are_no_trouble() -> None:
    p = np.array([0.0, 0.0, 1.0, 1.0, 0.5] * 20)
    found = fit_beta(p, np.array([0.0, 1.0, 1.0, 0.0, 1.0] * 20), np.ones(100))
    assert np.isfinite([found.a, found.b, found.c]).all()
