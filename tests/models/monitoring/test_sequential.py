"""A worse model is found; an equal one is not, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest

from models.monitoring.sequential import Comparison, Sample


def run(gap: float, seed: int, points: int = 6000, alpha: float = 0.05) -> int | None:
    """Points of the model on trial until it is found worse, None if it never is."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 400, points).tolist()
    # Users differ: their points hang together.
    level = rng.normal(0.5, 0.3, 800)
    noise = rng.normal(0, 0.3, (points, 2)).tolist()
    comparison = Comparison(alpha, min_users=50)
    for at, (user, (one, two)) in enumerate(zip(users, noise, strict=True)):
        comparison.ours.add(f"a{user}", level[user] + one + gap)
        comparison.theirs.add(f"b{user}", level[user + 400] + two)
        look = comparison.look()
        if look is not None and look.worse:
            return at
    return None


@pytest.mark.slow
def test_an_equal_model_is_hardly_ever_found_worse_though_every_point_is_looked_at() -> None:
    found = sum(run(0.0, seed) is not None for seed in range(60))
    assert found <= 6


def test_a_worse_model_is_found_and_a_much_worse_one_sooner() -> None:
    slow = [run(0.12, seed) for seed in range(10)]
    fast = [run(0.6, seed) for seed in range(10)]
    assert sum(at is not None for at in slow) >= 8
    assert all(at is not None and at < 500 for at in fast)


def test_nothing_is_said_of_few_users() -> None:
    comparison = Comparison(0.05, min_users=3)
    for n in range(50):
        comparison.ours.add("one user", 5.0 + n)
        comparison.theirs.add(f"u{n}", 0.1)
        assert comparison.look() is None


def test_the_mean_and_its_error_are_those_of_users() -> None:
    sample = Sample(max_users=2)
    for user, loss in [("a", 1.0), ("a", 3.0), ("b", 5.0), ("beyond the bound", 99.0)]:
        sample.add(user, loss)
    mean, error = sample.mean()
    assert (mean, sample.users, sample.points) == (3.0, 2, 3)
    # Users' residuals: 4 - 2 * 3 = -2 and 5 - 3 = 2.
    assert error == np.sqrt((4 + 4) * 2 / 1) / 3
