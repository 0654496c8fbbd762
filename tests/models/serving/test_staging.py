"""Arrays to a device and back in one piece: the same numbers, the same memory again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from models.serving.staging import SMALLEST, Staging

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
    ),
]
ANY_SHAPE = array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
ANY_ARRAY = st.one_of(
    arrays(np.int64, ANY_SHAPE, elements=st.integers(-(2**62), 2**62)),
    arrays(np.float32, ANY_SHAPE, elements=st.floats(-1e6, 1e6, width=32)),
)


@pytest.mark.slow
@given(st.lists(ANY_ARRAY, max_size=6), st.lists(ANY_ARRAY, max_size=6))
def test_what_is_sent_comes_back(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    staging = Staging(torch.device("cpu"))
    for batch in (first, second):
        tensors = staging.send(batch)
        for tensor, array in zip(tensors, batch, strict=True):
            assert tensor.shape == array.shape
            assert np.array_equal(tensor.numpy(), array)
        staging.receive(tensors)
        for found, array in zip(staging.received(), batch, strict=True):
            assert (found.shape, found.dtype) == (array.shape, array.dtype)
            assert np.array_equal(found, array)


@pytest.mark.parametrize("device", DEVICES)
def test_the_memory_is_used_again_and_only_grows(device: str) -> None:
    staging = Staging(torch.device(device))

    def block(count: int) -> tuple[int, int]:
        (tensor,) = staging.send([np.arange(count)])
        staging.receive([tensor + 1])
        assert np.array_equal(staging.received()[0], np.arange(count) + 1)
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()

    small = block(10)
    assert small[1] == SMALLEST
    assert block(SMALLEST // 8) == small
    large = block(SMALLEST // 8 + 1)
    assert large[1] == 2 * SMALLEST
    assert block(1) == large


def test_the_callers_arrays_may_change_at_once() -> None:
    staging = Staging(torch.device("cpu"))
    sent = np.arange(5)
    (tensor,) = staging.send([sent])
    sent[:] = 0
    staging.receive([tensor])
    (found,) = staging.received()
    assert found.tolist() == [0, 1, 2, 3, 4]
    staging.send([np.zeros(5, np.int64)])
    staging.receive(staging.send([np.zeros(5, np.int64)]))
    staging.received()
    assert found.tolist() == [0, 1, 2, 3, 4], "what was received is the caller's"


def test_arrays_that_are_not_contiguous_are_packed_in_order() -> None:
    staging = Staging(torch.device("cpu"))
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    (tensor,) = staging.send([turned])
    assert np.array_equal(tensor.numpy(), turned)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_the_hosts_memory_is_pinned() -> None:
    staging = Staging(torch.device("cuda"))
    staging.receive(staging.send([np.arange(5)]))
    staging.received()
    assert staging.pinned


def test_nothing_is_pinned_for_the_cpu() -> None:
    staging = Staging(torch.device("cpu"))
    staging.receive(staging.send([np.arange(5)]))
    assert not staging.pinned
