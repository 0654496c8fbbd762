"""Targets in a shared loss: weighed by uncertainty or as someone wants."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import TrainingError
from models.fitting.weighting import LOSS_FLOOR, target_weights
from tests.models.fitting.small import fitted, weights


def test_the_weights_are_the_least_of_the_loss_of_kendall_gal_and_cipolla() -> None:
    """Found by looking at all noises; the weights are those of the least up to their mean."""
    losses = np.array([0.6, 0.05])
    noises = np.linspace(-6, 3, 90_001)
    parts = np.exp(-noises) * losses[:, None] + noises / 2
    best = np.exp(-noises[parts.argmin(axis=1)])
    found = target_weights(losses)
    assert np.allclose(found, best / best.mean(), rtol=1e-3)
    assert found[0] < found[1]
    assert np.mean(found) == pytest.approx(1)


def test_a_target_that_is_all_but_known_is_not_all() -> None:
    found = target_weights(np.array([0.5, 0.0]))
    assert found[1] / found[0] == pytest.approx(0.5 / LOSS_FLOOR)


def test_wishes_count_by_their_ratio() -> None:
    losses = np.array([0.6, 0.05])
    assert target_weights(losses, (6.0, 2.0)) == pytest.approx([1.5, 0.5])
    for wrong in ((1.0,), (1.0, 0.0), (1.0, 2.0, 3.0)):
        with pytest.raises(TrainingError, match=r"there are 2 targets.*train\.task_weights"):
            target_weights(losses, wrong)


def test_the_bins_of_a_wait_are_weighed_as_one() -> None:
    losses = np.array([0.6, 0.1, 0.2, 0.3])
    asked = ("purchase", "wait", "wait", "wait")
    assert target_weights(losses, (), asked) == pytest.approx([1, 1, 1, 1])
    alone = target_weights(np.array([0.6, 0.3]))
    together = target_weights(np.array([0.6, 0.1, 0.2]), (), ("purchase", "wait", "wait"))
    assert together[0] / together[1] == pytest.approx(alone[0] / alone[1])
    assert together[1] == together[2]
    wished = target_weights(losses, (3.0, 1.0, 1.0, 1.0), asked)
    assert wished == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])


@pytest.mark.slow
def test_a_fit_follows_them() -> None:
    """What counts for next to nothing is learnt least; the other target is learnt as if alone."""
    by_uncertainty, _ = fitted(None)
    alike, _ = fitted(None, task_weights=(1.0, 1.0))
    twice, _ = fitted(None, task_weights=(2.0, 2.0))
    assert weights(alike) == weights(twice)
    assert weights(alike) != weights(by_uncertainty)
    one_sided, _ = fitted(None, task_weights=(1.0, 1e-6), weight_decay=0.0)
    # The output layer started from zeros: its second row has hardly moved.
    moved = one_sided.state_dict()["direct.weight"].abs().amax(dim=1)
    assert moved[1] < moved[0]
