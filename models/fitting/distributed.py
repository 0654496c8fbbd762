"""Data-parallel fitting under `torchrun`: every process takes its share of each step's windows.

Gradients are summed over the processes (DistributedDataParallel), so a step is the step that one
process would have taken with all the windows; but for dropout, which each draws for its own share,
the losses are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from models.errors import TrainingError
from models.networks.base import Network

TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Group:
    """The processes of one fit."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with its gradients averaged over the processes after each backward pass."""
        if self.size == 1:
            return module
        # Every step takes the same way: what gets no gradient is found in the first one.
        return DistributedDataParallel(module, static_graph=True)

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes, on each of them."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def agree(self, text: str, what: str) -> None:
        """Check that all processes have the same.

        Raises:
            TrainingError: they do not.
        """
        if self.size == 1:
            return
        found: list[str | None] = [None] * self.size
        code = torch.tensor([int(text[:15], 16)], dtype=torch.int64)
        codes = [torch.zeros_like(code) for _ in found]
        distributed.all_gather(codes, code)
        if any(int(other) != int(code) for other in codes):
            raise TrainingError(
                f"the {self.size} processes do not have the same {what}: give files, or --until a "
                "time that the log has passed"
            )


SINGLE = Group()


class PointLogits(nn.Module):
    """A network as one function of a batch, which is what a wrapper can follow."""

    def __init__(self, network: Network) -> None:
        """Wrap the network; its parameters are this module's."""
        super().__init__()
        self.network = network

    def forward(
        self, ids: Tensor, nums: Tensor, length: Tensor, row: Tensor, position: Tensor, at: Tensor
    ) -> Tensor:
        """Logits [q,K] of its points; see `models.fitting.batches.Batch`, `at` is `profile`."""
        states = self.network.scan(self.network.initial(len(length)), ids, nums, length)
        return self.network.heads(states[row, position], at)


@contextmanager
def processes() -> Iterator[Group]:
    """The group that `torchrun` started this process in; alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    try:
        distributed.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"cannot meet the other {size - 1} processes of torchrun: {error}"
        ) from error
    try:
        yield Group(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
