"""Figures of a population count each user once and say what chance alone would show."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluate import calibration_error, log_loss, roc_auc
from models.populations import chance_error, population_figures, user_weights

USERS = 300


def labelled(seed: int, *, shared: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, probabilities, users) of calibrated predictions; `shared`: one label a user."""
    rng = np.random.default_rng(seed)
    users = np.arange(USERS).repeat(10)
    rate = rng.uniform(0.1, 0.9, USERS)[users]
    drawn = rng.random(USERS)[users] if shared else rng.random(len(users))
    return (drawn < rate).astype(np.float64), rate, users


def test_each_users_weights_sum_to_one() -> None:
    weights = user_weights(np.array([7, 3, 7, 7]))
    assert weights.tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])


def test_weighted_figures_equal_those_of_repeated_examples() -> None:
    rng = np.random.default_rng(1)
    labels, said = rng.integers(0, 2, 80), rng.integers(0, 20, 80) / 20
    times = rng.integers(1, 5, 80)
    weights = times.astype(np.float64)
    many = np.repeat(np.arange(80), times)
    for figure in (roc_auc, log_loss):
        assert figure(labels, said, weights) == pytest.approx(figure(labels[many], said[many]))
    weighted = calibration_error(labels, said, weights=weights)
    assert weighted == pytest.approx(calibration_error(labels[many], said[many]))


@pytest.mark.parametrize("shared", [True, False])
def test_calibrated_predictions_mostly_stay_below_chance(*, shared: bool) -> None:
    below = 0
    for seed in range(100):
        labels, said, users = labelled(seed, shared=shared)
        weights = user_weights(users)
        error = calibration_error(labels, said, weights=weights)
        below += error <= chance_error(labels, said, users, weights)
    assert 88 <= below <= 100


def test_figures_name_what_they_are_of() -> None:
    labels, said, users = labelled(5, shared=True)
    found = population_figures(labels, np.sqrt(said), users)
    assert (found["points"], found["users"]) == (3000, USERS)
    assert found["ece"] > found["ece_chance"] > 0
    assert found["base_rate"] == pytest.approx(labels.mean())
