"""Examples -> tensors: points grouped by the window they look through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.dataset import Examples, Index
from models.fitting.stepping import by_length, shuffled


@dataclass(frozen=True)
class Batch:
    """Some windows and all points that look through them; q points over B windows of length L."""

    ids: Tensor
    """[B,L,C]."""
    nums: Tensor
    """[B,L,F]."""
    length: Tensor
    """[B] events up to the last point of the window; what follows is padding."""
    row: Tensor
    """[q] window of each point."""
    position: Tensor
    """[q] last event of the window that the point has seen."""
    profile: Tensor
    """[q,P]."""
    labels: Tensor
    """[q,K], NaN where unknown."""
    weight: Tensor
    """[q]."""
    points: Tensor
    """[q] index of each point in the examples."""


class Batches:
    """The points `points` of `examples` in batches of `windows` windows."""

    def __init__(
        self,
        examples: Examples,
        points: Index,
        windows: int,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Group the points by window; the event arrays are shared, not copied per window.

        Of several processes each takes its share of the windows of every batch.
        """
        self._rank, self._processes = rank, processes
        self._device = device
        self._ids = torch.from_numpy(examples.ids).to(device)
        self._nums = torch.from_numpy(examples.nums).to(device)
        starts, row = np.unique(examples.start[points], return_inverse=True)
        order = np.argsort(row, kind="stable")
        self._points = points[order]
        self._position = (examples.event - examples.start)[self._points]
        self._first = np.searchsorted(row[order], np.arange(len(starts)))
        self._count = np.bincount(row, minlength=len(starts))
        self._length = np.zeros(len(starts), np.int64)
        np.maximum.at(self._length, row[order], self._position + 1)
        self._starts = starts
        self._examples = examples
        self._windows = windows

    def __len__(self) -> int:
        return ceil(len(self._starts) / self._windows)

    @property
    def points(self) -> Index:
        """All points, in the batches' own order."""
        return self._points

    @property
    def followed(self) -> int:
        """Events of all windows that another follows, no later than the window's last point."""
        return int((self._length - 1).clip(0).sum())

    def __iter__(self) -> Iterator[Batch]:
        """All batches that are not empty, the shortest windows first."""
        for chosen in by_length(self._length, self._windows):
            mine = chosen[self._rank :: self._processes]
            if len(mine):
                yield self._batch(mine)

    def shuffled(self, rng: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        """All batches but the first `skip` in random order, windows of like length together.

        A process whose share of a batch is empty gets a window without weight: all take each step.
        """
        for chosen in shuffled(self._length, self._windows, rng, skip):
            mine = chosen[self._rank :: self._processes]
            if len(mine):
                yield self._batch(mine)
            else:
                empty = self._batch(chosen[:1])
                yield replace(empty, weight=torch.zeros_like(empty.weight))

    def _batch(self, windows: Index) -> Batch:
        count, length = self._count[windows], self._length[windows]
        row = np.repeat(np.arange(len(windows)), count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        place = self._first[windows][row] + within
        points = self._points[place]
        index = self._starts[windows][:, None] + np.arange(int(length.max()))
        index = np.minimum(index, len(self._ids) - 1)
        where = self._to(index)
        return Batch(
            ids=self._ids[where],
            nums=self._nums[where],
            length=self._to(length),
            row=self._to(row),
            position=self._to(self._position[place]),
            profile=self._to(self._examples.profile[points]),
            labels=self._to(self._examples.labels[points]),
            weight=self._to(self._examples.weight[points]),
            points=self._to(points),
        )

    def _to(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)
