"""Beta maps of probabilities, one element after the other.

A loop over calls into the mathematical library is not vectorised, so a probability is mapped to the
same bits whatever else is in the batch.
"""

from __future__ import annotations

import math

import numpy as np

from models.kernels.jit import kernel
from models.steps import F32

FLOOR = 1e-7
"""Probabilities nearer to 0 or 1 count as this near."""


@kernel
def map_column(p_NK: F32, column: int, a: float, b: float, c: float) -> None:
    """Replace ``p_NK[:, column]`` by sigmoid(a ln p - b ln(1 - p) + c), in place."""
    for n in range(p_NK.shape[0]):
        p = min(max(np.float64(p_NK[n, column]), FLOOR), 1 - FLOOR)
        z = a * math.log(p) - b * math.log(1 - p) + c
        if z >= 0:
            p_NK[n, column] = 1 / (1 + math.exp(-z))
        else:
            power = math.exp(z)
            p_NK[n, column] = power / (1 + power)


def map_all(p_NK: F32, maps: list[tuple[int, float, float, float]]) -> F32:
    """Probabilities [N,K] with some columns mapped: (column, a, b, c) each."""
    mapped = p_NK.copy()
    for column, a, b, c in maps:
        map_column(mapped, column, a, b, c)
    return mapped
