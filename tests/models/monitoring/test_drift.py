"""The population stability index: by hand, by chance, and where something moved."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.inputs.features import PROFILE_FEATURES
from models.monitoring.drift import (
    FEATURE,
    LABEL,
    MODERATE,
    SCORE,
    SEVERE,
    DriftMonitor,
    Histogram,
    Reference,
    stability_index,
)


def reference(rng: np.random.Generator) -> Reference:
    profile = rng.normal(2, 1, (5000, len(PROFILE_FEATURES))).astype(np.float32)
    labels = (rng.random(2000) < 0.2).astype(np.float32)
    return Reference.of(profile, {"purchase": rng.beta(2, 8, 5000)}, {"purchase": labels})


def test_the_index_by_hand() -> None:
    expected = (0.4 - 0.5) * np.log(0.4 / 0.5) + (0.6 - 0.5) * np.log(0.6 / 0.5)
    assert stability_index([0.5, 0.5], [0.4, 0.6]) == pytest.approx(expected)
    assert stability_index([0.5, 0.5], [0.5, 0.5]) == 0
    assert np.isfinite(stability_index([1.0, 0.0], [0.0, 1.0]))


def test_bins_hold_equal_shares_and_frequent_values_one_of_their_own() -> None:
    even = Histogram.of(np.arange(1000))
    assert len(even.shares) == 10
    assert even.shares == pytest.approx([0.1] * 10, abs=0.002)
    flag = Histogram.of(np.array([0.0] * 70 + [1.0] * 30))
    assert flag.shares == pytest.approx([0.7, 0.3])
    constant = Histogram.of(np.ones(50))
    assert constant.shares == (1.0,)


def test_the_same_distribution_gives_nothing_and_another_gives_alarm() -> None:
    rng = np.random.default_rng(2)
    monitor = DriftMonitor(reference(rng))
    same = rng.normal(2, 1, (3000, len(PROFILE_FEATURES))).astype(np.float32)
    same[:, 4] += 1.0
    monitor.add_profiles(same)
    monitor.add(SCORE + "purchase", rng.beta(2, 8, 3000))
    monitor.add(LABEL + "purchase", (rng.random(3000) < 0.5).astype(np.float32))
    monitor.add("feature.unknown", np.ones(10))
    found = monitor.indices()
    moved = FEATURE + PROFILE_FEATURES[4]
    assert found.pop(moved) > SEVERE
    assert found.pop(LABEL + "purchase") > SEVERE
    assert set(found) == {SCORE + "purchase"} | {
        FEATURE + name for name in PROFILE_FEATURES if FEATURE + name != moved
    }
    assert max(found.values()) < MODERATE


def test_too_few_samples_give_no_index_and_old_ones_fade() -> None:
    rng = np.random.default_rng(3)
    monitor = DriftMonitor(reference(rng), min_samples=100)
    monitor.add(SCORE + "purchase", rng.beta(2, 8, 99))
    assert monitor.indices() == {}
    for _ in range(30):
        monitor.add(SCORE + "purchase", rng.beta(2, 8, 10_000))
    calm = monitor.indices()[SCORE + "purchase"]
    for _ in range(30):
        monitor.add(SCORE + "purchase", np.full(10_000, 0.9))
    # Of all 600,000 samples half are unlike the reference; of the last ones nearly all.
    assert monitor.indices()[SCORE + "purchase"] > 5 > MODERATE > calm


def test_it_travels_in_the_manifest() -> None:
    found = reference(np.random.default_rng(4))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Reference) == found
