"""Parts of arrays against slices of bytes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from stream.kernels.buffers import as_array, gathered


@pytest.mark.parametrize("count", [0, 1, 500])
def test_parts_are_gathered_one_behind_the_other(count: int) -> None:
    chance = random.Random(count)
    data = chance.randbytes(1000)
    places = [sorted((chance.randrange(1001), chance.randrange(1001))) for _ in range(count)]
    begins, ends = np.array(places, np.int64).reshape(count, 2).T.copy()
    want = b"".join(data[begin:end] for begin, end in places)
    assert gathered(as_array(data), begins, ends).tobytes() == want
