"""The arrays of a micro-batch on their way to a device and back: one copy in, one copy out.

Many small arrays would each wait for their own transfer. Here they are packed side by side into one
block of host memory, which on a GPU is pinned, so that the transfer runs by itself while the CPU
goes on; what comes back is packed on the device and unpacked here. Blocks are used again by later
micro-batches and only ever grow. On the CPU the same code copies from one block to another, which
nobody needs and every test can run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

ALIGNMENT: Final = 64
"""Arrays begin at multiples of this many bytes: any element type may lie there."""
SMALLEST: Final = 1 << 16
"""Bytes of a new block; it doubles from there."""


class Staging:
    """One micro-batch's way in and out. In use from `send` until `received`, then free again."""

    def __init__(self, device: torch.device) -> None:
        """Take no memory before there is something to send."""
        self._inbound, self._outbound = _Block(device), _Block(device)
        self._cuda = device.type == "cuda"
        self._arrived: torch.cuda.Event | None = None
        self._expected: list[tuple[int, torch.dtype, tuple[int, ...]]] = []

    @property
    def pinned(self) -> bool:
        """Whether the host's side lies in pinned memory."""
        return self._inbound.host.is_pinned() and self._outbound.host.is_pinned()

    def send(self, arrays: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
        """Begin one copy of all arrays to the device.

        Args:
            arrays: of any shapes and numeric types; they may change as soon as this returns.

        Returns:
            The same arrays as tensors on the device, valid until the next `send`. What is computed
            with them waits for the copy by itself.
        """
        places, total = _places([array.nbytes for array in arrays])
        self._inbound.reserve(total)
        host = self._inbound.host.numpy()
        for place, array in zip(places, arrays, strict=True):
            room = host[place : place + array.nbytes].view(array.dtype).reshape(array.shape)
            room[...] = array
        device = self._inbound.device
        device[:total].copy_(self._inbound.host[:total], non_blocking=True)
        return [
            _typed(device, place, _TYPES[array.dtype], array.shape)
            for place, array in zip(places, arrays, strict=True)
        ]

    def receive(self, tensors: Sequence[torch.Tensor]) -> None:
        """Begin one copy of all tensors to the host; `received` waits for it."""
        places, total = _places([tensor.numel() * tensor.element_size() for tensor in tensors])
        self._outbound.reserve(total)
        device = self._outbound.device
        self._expected = []
        for place, tensor in zip(places, tensors, strict=True):
            shape = tuple(tensor.shape)
            _typed(device, place, tensor.dtype, shape).copy_(tensor)
            self._expected.append((place, tensor.dtype, shape))
        self._outbound.host[:total].copy_(device[:total], non_blocking=True)
        if self._cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def received(self) -> list[NDArray[Any]]:
        """Wait for what `receive` began and return it, in arrays of their own.

        Raises:
            RuntimeError: what the device computed, or a copy, has failed.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        host = self._outbound.host
        return [_typed(host, *expected).numpy().copy() for expected in self._expected]


class _Block:
    """Host memory and its counterpart on the device, of the same size."""

    def __init__(self, device: torch.device) -> None:
        self._where = device
        self.host = torch.empty(0, dtype=torch.uint8)
        self.device = torch.empty(0, dtype=torch.uint8, device=device)

    def reserve(self, size: int) -> None:
        """Have room for `size` bytes; what was there is lost where it was too little."""
        if size <= len(self.host):
            return
        size = max(SMALLEST, 1 << (size - 1).bit_length())
        self.host = torch.empty(size, dtype=torch.uint8, pin_memory=self._where.type == "cuda")
        self.device = torch.empty(size, dtype=torch.uint8, device=self._where)


_TYPES: Final = {
    np.dtype(np.float32): torch.float32,
    np.dtype(np.int64): torch.int64,
}


def _places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where blobs of these sizes begin in a block, and how long it is; bytes."""
    places, end = [], 0
    for size in sizes:
        places.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return places, end


def _typed(
    block: torch.Tensor, place: int, dtype: torch.dtype, shape: tuple[int, ...]
) -> torch.Tensor:
    """A view of the block's bytes from `place` on."""
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    return block[place : place + size].view(dtype).view(shape)
