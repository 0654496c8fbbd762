"""Maximum likelihood finds the process that made the histories."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.baselines.bgnbd import fit_bgnbd, fit_process
from models.errors import TrainingError
from models.inputs.features import PROFILE_FEATURES
from models.networks.process import ProcessParameters, PurchaseProcess
from models.serving.scorer import network_spec
from models.targets import shop_targets

pytestmark = pytest.mark.slow

DAY = 24.0
TRUE = ProcessParameters(shape=0.8, scale_hours=20 * DAY, a=0.9, b=2.5)


def histories(users: int, days: float, after: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """(x, t_x, T, whether an order follows within `after` days), hours, of users of `TRUE`."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(TRUE.shape, 1 / TRUE.scale_hours, users)
    leaves = rng.beta(TRUE.a, TRUE.b, users)
    age = rng.uniform(0.2, 1.0, users) * days * DAY
    repeats, last, returns = np.zeros(users), np.zeros(users), np.zeros(users)
    for user in range(users):
        # In this model nobody leaves right after the first order.
        time = rng.exponential(1 / rate[user])
        while time < age[user]:
            repeats[user] += 1
            last[user] = time
            if rng.random() < leaves[user]:
                time = np.inf
                break
            time += rng.exponential(1 / rate[user])
        returns[user] = time <= age[user] + after * DAY
    return repeats, last, age, returns


def profile_of(repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> np.ndarray:
    profile = np.zeros((len(repeats), len(PROFILE_FEATURES)), np.float32)
    for name, values in (
        ("log_orders", repeats + 1),
        ("log_purchase_span_hours", last),
        ("log_since_purchase_hours", age - last),
    ):
        profile[:, PROFILE_FEATURES.index(name)] = np.log1p(values)
    return profile


def test_the_parameters_are_found_again_and_predict_what_follows() -> None:
    repeats, last, age, returns = histories(3_000, 180, 45)
    found = fit_bgnbd(repeats, last, age)
    assert found.shape == pytest.approx(TRUE.shape, rel=0.2)
    assert found.scale_hours == pytest.approx(TRUE.scale_hours, rel=0.25)
    assert found.a / (found.a + found.b) == pytest.approx(TRUE.a / (TRUE.a + TRUE.b), rel=0.2)

    profile = profile_of(repeats, last, age)
    again = fit_process(profile)
    assert again.scale_hours == pytest.approx(found.scale_hours, rel=1e-3)
    targets = shop_targets(6, 45 * 86_400_000, 45 * 86_400_000)
    process = PurchaseProcess(network_spec(targets), found)
    probabilities = torch.sigmoid(process(torch.from_numpy(profile))).numpy()
    assert probabilities[:, 0].mean() == pytest.approx(returns.mean(), abs=0.02)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    low, high = probabilities[:, 0] < 0.2, probabilities[:, 0] > 0.6
    assert returns[low].mean() < 0.25
    assert returns[high].mean() > 0.55


def test_a_shop_that_nobody_leaves_can_be_fitted() -> None:
    rng = np.random.default_rng(1)
    found = fit_bgnbd(rng.poisson(20, 500), np.full(500, 99 * DAY), np.full(500, 100 * DAY))
    assert np.isfinite([found.shape, found.scale_hours, found.a, found.b]).all()
    assert found.a / (found.a + found.b) < 0.01


def test_without_an_order_nothing_is_fitted() -> None:
    with pytest.raises(TrainingError, match="nobody has ordered"):
        fit_process(np.zeros((50, len(PROFILE_FEATURES)), np.float32))
