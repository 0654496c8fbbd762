"""ADWIN finds a change of the mean, once, and keeps quiet in a calm stream."""

from __future__ import annotations

import numpy as np

from models.monitoring.changes import ChangeDetector


def test_a_change_is_found_after_it_happened_and_a_calm_stream_has_none() -> None:
    rng = np.random.default_rng(5)
    calm, moved = ChangeDetector(), ChangeDetector()
    for at, value in enumerate(rng.exponential(0.4, 4000)):
        assert not calm.add(value, at)
        moved.add(value + 0.5 * (at >= 2000), at)
    assert calm.changes == 0
    assert calm.last_change is None
    assert moved.changes >= 1
    assert 2000 < (moved.last_change or 0) < 3500
    assert abs(moved.mean - 0.9) < 0.1 < abs(moved.mean - calm.mean)


def test_nothing_is_reported_of_a_short_stream() -> None:
    detector = ChangeDetector(min_samples=500)
    values = [0.0] * 100 + [1.0] * 100
    assert not any(detector.add(value, at) for at, value in enumerate(values))
