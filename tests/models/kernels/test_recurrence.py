"""The recurrence: torch's numbers, and the same bits in any company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.kernels.recurrence import gru_states
from models.steps import NOTHING, STORED


@pytest.mark.parametrize("width", [1, 3, 16, 64])
def test_the_states_are_torchs(width: int) -> None:
    torch.manual_seed(width)
    count, length = 9, 30
    gru = torch.nn.GRU(5, width, batch_first=True)
    for weights in gru.parameters():
        torch.nn.init.normal_(weights, std=width**-0.5)
    inputs, begin = torch.randn(count, length, 5) * 3, torch.randn(1, count, width)
    with torch.inference_mode():
        want, _ = gru(inputs, begin)
        drive = torch.nn.functional.linear(inputs, gru.weight_ih_l0, gru.bias_ih_l0)
    found = run(gru, begin[0].numpy(), drive.numpy())
    assert np.abs(found - want.numpy()).max() < 2e-6


def run(gru: torch.nn.GRU, begin_BH: np.ndarray, drive_BMG: np.ndarray) -> np.ndarray:
    """Every state of B runs of M inputs, one run after the other."""
    batch, length = drive_BMG.shape[:2]
    before = np.arange(-1, batch * length - 1)
    before[::length] = STORED
    states = gru_states(
        np.ascontiguousarray(gru.weight_hh_l0.detach().numpy().T),
        gru.bias_hh_l0.detach().numpy(),
        np.repeat(begin_BH, length, axis=0),
        drive_BMG.reshape(batch * length, -1),
        before,
        np.arange(batch * length),
    )
    return states.reshape(batch, length, -1)


def test_extremes_saturate() -> None:
    gru = torch.nn.GRU(1, 4, batch_first=True)
    for drive in (1e4, -1e4):
        found = run(gru, np.zeros((1, 4), np.float32), np.full((1, 3, 12), drive, np.float32))
        assert np.isfinite(found).all()
        assert (np.abs(found) <= 1).all()


def test_a_state_has_the_same_bits_in_any_order_and_any_run() -> None:
    rng = np.random.default_rng(3)
    width, users, count = 16, 7, 200
    weight = rng.normal(size=(width, 3 * width)).astype(np.float32)
    bias = rng.normal(size=3 * width).astype(np.float32)
    user = rng.integers(0, users, count)
    size = np.where(rng.random(count) < 0.2, rng.integers(2, 5, count), 1)
    anew = size > 1
    drive = [rng.normal(size=(k, 3 * width)).astype(np.float32) for k in size]
    stored = rng.normal(size=(users, width)).astype(np.float32)

    def states(order: list[int]) -> dict[int, bytes]:
        """Of each event, worked off in this order."""
        last: dict[int, int] = {}
        before = []
        for place, event in enumerate(order):
            before.append(NOTHING if anew[event] else last.get(user[event], STORED))
            last[user[event]] = place
        sizes = size[order]
        found = gru_states(
            weight,
            bias,
            stored[user[order]],
            np.concatenate([drive[event] for event in order]),
            np.array(before),
            np.cumsum(sizes) - sizes,
        )
        return {event: found[place].tobytes() for place, event in enumerate(order)}

    straight = states(list(range(count)))
    by_user = sorted(range(count), key=lambda event: (user[event], event))
    assert states(by_user) == straight
    half = states(list(range(count // 2)))
    assert half == {event: straight[event] for event in half}
