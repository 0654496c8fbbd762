"""Groups of windows, and one step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.fitting.stepping import by_length, shuffled, take_step

LENGTHS = np.array([5, 1, 9, 3, 3, 8, 2])


def test_by_length_the_shortest_come_first() -> None:
    groups = [group.tolist() for group in by_length(LENGTHS, 3)]
    assert groups == [[1, 6, 3], [4, 0, 5], [2]]


def test_shuffled_groups_hold_every_window_once_and_like_lengths() -> None:
    length = np.repeat(np.arange(1, 101), 10)
    groups = list(shuffled(length, 16, np.random.default_rng(0)))
    assert sorted(np.concatenate(groups).tolist()) == list(range(1000))
    assert max(int(np.ptp(length[group])) for group in groups) < 50
    means = [float(length[group].mean()) for group in groups]
    assert means != sorted(means)


def test_a_fit_goes_on_behind_the_groups_that_it_has_had() -> None:
    whole, rest = (
        [group.tolist() for group in shuffled(LENGTHS, 2, np.random.default_rng(3), skip)]
        for skip in (0, 2)
    )
    assert rest == whole[2:]


def test_a_step_is_clipped_and_tells_the_norm() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0)
    optimiser = torch.optim.SGD(module.parameters(), lr=9)
    norm = take_step(optimiser, module, module.weight.sum() * 4, rate=0.5, clip_norm=1.0)
    assert norm == pytest.approx(4)
    assert float(module.weight.detach()) == pytest.approx(-0.5, abs=1e-6)
