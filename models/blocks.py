"""Functions of rows that give each row the same bits in any company: run on whole blocks of rows.

Matrix kernels pick their instructions by the number of rows, and with whole blocks a user's numbers
do not depend on who else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

BLOCK: Final = 32
"""Rows per block."""


def run_in_blocks(
    function: Callable[..., tuple[torch.Tensor, ...]], device: torch.device, *arrays: NDArray[Any]
) -> tuple[NDArray[Any], ...]:
    """Give B rows to a function of a scripted module, padded with zeros to whole blocks.

    Args:
        function: tensors of rows -> tensors of as many rows.
        device: where it computes.
        arrays: of B rows each; they are not changed.

    Returns:
        B rows of each result; floating point in single precision.
    """
    batch = len(arrays[0])
    padded = max(-(-batch // BLOCK), 1) * BLOCK
    # Without the profiling executor the first calls are as fast as the later ones, and no kernel is
    # fused in between, which would change the last bits.
    no_fusing = torch.jit.optimized_execution(should_optimize=False)  # type: ignore[attr-defined]
    with torch.inference_mode(), no_fusing:
        results = function(*(_tensor(array, padded, device) for array in arrays))
        return tuple(_array(result)[:batch] for result in results)


def lengthened(array_BL: NDArray[Any], length: int) -> NDArray[Any]:
    """A copy with zeros up to `length` columns."""
    out = np.zeros((len(array_BL), length, *array_BL.shape[2:]), array_BL.dtype)
    out[:, : array_BL.shape[1]] = array_BL
    return out


def _tensor(array: NDArray[Any], rows: int, device: torch.device) -> torch.Tensor:
    if len(array) != rows:
        whole = np.zeros((rows, *array.shape[1:]), array.dtype)
        whole[: len(array)] = array
        array = whole
    whole = np.require(array, requirements=["C", "W"])
    return torch.from_numpy(whole).to(device)


def _array(result: torch.Tensor) -> NDArray[Any]:
    if result.is_floating_point():
        result = result.to(torch.float32)
    array: NDArray[Any] = result.cpu().numpy()
    return array
