"""What every fit by gradients does: windows of like length in one step, and the step itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Index = NDArray[np.intp]


def by_length(length_W: NDArray[np.int64], size: int) -> Iterator[Index]:
    """All W windows, `size` at a time, the shortest first."""
    order = np.argsort(length_W, kind="stable")
    yield from (order[at : at + size] for at in range(0, len(order), size))


def shuffled(
    length_W: NDArray[np.int64], size: int, rng: np.random.Generator, skip: int = 0
) -> Iterator[Index]:
    """All W windows, `size` at a time, windows of like length together, in random order.

    The first `skip` groups are drawn and left out: a fit goes on behind them.
    """
    order = np.argsort(length_W * rng.uniform(0.8, 1.25, len(length_W)))
    groups = -(-len(order) // size)
    for index in rng.permutation(groups)[skip:]:
        yield order[index * size : (index + 1) * size]


def take_step(
    optimiser: torch.optim.Optimizer, module: nn.Module, loss: Tensor, rate: float, clip_norm: float
) -> float:
    """One step down the gradient of a loss, at this learning rate.

    Returns:
        The gradient's norm before it was clipped.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
    optimiser.step()
    return float(norm)
