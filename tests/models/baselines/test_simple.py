"""Baselines of one look at the profile."""

from __future__ import annotations

import numpy as np
import pytest

from models.baselines import simple
from models.evaluate import roc_auc
from models.inputs.features import PROFILE_FEATURES

pytestmark = pytest.mark.slow

P = len(PROFILE_FEATURES)


def users(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(profiles, labels): frequent and recent buyers buy again."""
    rng = np.random.default_rng(seed)
    orders, since = rng.integers(0, 9, size), rng.uniform(1, 2000, size)
    profile = np.zeros((size, P), np.float32)
    profile[:, PROFILE_FEATURES.index("log_orders")] = np.log1p(orders)
    profile[:, PROFILE_FEATURES.index("has_purchase")] = orders > 0
    profile[:, PROFILE_FEATURES.index("log_since_purchase_hours")] = np.log1p(since) * (orders > 0)
    chance = (orders / 12) * np.exp(-since / 1500)
    return profile, (rng.random(size) < chance).astype(np.float64)


def test_each_knows_what_it_looks_at() -> None:
    profile, labels = users(3000, 0)
    judged, truth = users(3000, 1)
    weight = np.ones(len(labels))
    flat = simple.base_rate(labels, weight, len(judged))
    assert np.allclose(flat, labels.mean())
    recency = simple.recency(profile, labels, judged)
    frequency = simple.frequency(profile, labels, judged)
    trees = simple.boosting(profile, labels, weight, judged, seed=0)
    for told in (recency, frequency, trees):
        assert told.shape == (len(judged),)
        assert ((told >= 0) & (told <= 1)).all()
        assert abs(told.mean() - truth.mean()) < 0.03
    assert 0.6 < roc_auc(truth, recency) < roc_auc(truth, trees)
    assert 0.6 < roc_auc(truth, frequency) < roc_auc(truth, trees)
    never = judged[:, PROFILE_FEATURES.index("has_purchase")] == 0
    assert recency[never].max() < recency[~never].mean()


def test_weights_count() -> None:
    labels = np.array([1.0, 0.0])
    assert simple.base_rate(labels, np.array([3.0, 1.0]), 1)[0] == 0.75
