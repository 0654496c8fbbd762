"""Whole blocks of rows: padding is not seen, and the caller's arrays stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.blocks import BLOCK, lengthened, run_in_blocks

CPU = torch.device("cpu")


@pytest.mark.parametrize("batch", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_rows_come_back_as_they_went_and_the_function_sees_whole_blocks(batch: int) -> None:
    seen: list[int] = []

    def double(rows: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(len(rows))
        return rows.double() * 2, codes + 1

    rows = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3)
    codes = np.arange(batch)
    for array in (rows, codes):
        array.flags.writeable = False
    doubled, more = run_in_blocks(double, CPU, rows, codes)
    assert seen == [max(-(-batch // BLOCK), 1) * BLOCK]
    assert doubled.tolist() == (rows * 2).tolist()
    assert doubled.dtype == np.float32
    assert more.tolist() == (codes + 1).tolist()
    assert more.dtype == np.int64


def test_lengthened_has_zeros_behind() -> None:
    short = np.ones((2, 3, 4), np.int64)
    long = lengthened(short, 5)
    assert long.shape == (2, 5, 4)
    assert (long[:, :3] == 1).all()
    assert not long[:, 3:].any()
