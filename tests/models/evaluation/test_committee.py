"""Equal weights until the calibration slice says otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.committee import fit_committee


def told(points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(log-odds of one who knows and one who guesses, labels)."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.5, points)
    labels = (rng.random(points) < 1 / (1 + np.exp(-true))).astype(np.float64)
    return np.stack([true, rng.normal(0, 1.5, points)], axis=1), labels


def test_a_small_slice_leaves_the_mean_and_a_large_one_finds_who_knows() -> None:
    few = fit_committee(*told(30))
    assert np.allclose(few.weights, 0.5, atol=0.03)
    assert abs(few.shift) < 0.02
    many = fit_committee(*told(60_000))
    assert many.weights[0] == pytest.approx(1, abs=0.06)
    assert many.weights[1] == pytest.approx(0, abs=0.06)


def test_one_member_is_calibrated() -> None:
    logits, labels = told(60_000)
    blurred = logits[:, :1] * 2 + 1
    found = fit_committee(blurred, labels)
    assert found.probabilities(blurred).mean() == pytest.approx(labels.mean(), abs=0.01)
    assert found.weights[0] == pytest.approx(0.5, abs=0.05)
