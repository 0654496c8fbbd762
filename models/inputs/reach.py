"""Where the windows of points begin: in what the rings held before the new events came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.history import Records
from models.inputs import features

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]

Sequences = tuple[I64, F32, I64]
"""ids [N,C], nums [N,F] and times [N], ms, of N events."""


@dataclass(frozen=True)
class Reach:
    """The last events of U histories."""

    events: Sequences
    """User by user, in order."""
    length: I64
    """[U] how many of each."""
    n: I64
    """[U] events of each history, with those that left its ring."""

    @classmethod
    def of(cls, records: Records, length: int) -> Reach:
        """The last `length` events in the ring of each record."""
        n = records["n"].astype(np.int64)
        known = np.flatnonzero(n)
        ids, nums, used = features.ring_inputs(records, known, length)
        rank = np.arange(ids.shape[1])
        inside = rank < used[:, None]
        slot = ((n[known] - used)[:, None] + rank) % records["ring"].shape[1]
        time = records["ring"]["time"][known[:, None], slot]
        of = np.zeros(len(records), np.int64)
        of[known] = used
        return cls((ids[inside], nums[inside], time[inside]), of, n)

    def sequences(self, new: Sequences, rows: Index) -> tuple[Sequences, I64, I64]:
        """Per user what the ring held and the new events, whose users are `rows` [N].

        Returns:
            The events, where each user's begin [U], and the rank of these in the history [U].
        """
        more = np.bincount(rows, minlength=len(self.n))
        sizes = self.length + more
        base = np.cumsum(sizes) - sizes
        if not len(self.events[0]):
            return new, base, self.n - self.length
        into = np.repeat(base - (np.cumsum(self.length) - self.length), self.length)
        old_at = into + np.arange(len(into))
        into = np.repeat(base + self.length - (np.cumsum(more) - more), more)
        new_at = into + np.arange(len(into))
        ids, nums, time = self.events
        merged = (
            _merged(ids, old_at, new[0], new_at),
            _merged(nums, old_at, new[1], new_at),
            _merged(time, old_at, new[2], new_at),
        )
        return merged, base, self.n - self.length


def _merged(old: NDArray[Any], old_at: I64, fresh: NDArray[Any], fresh_at: I64) -> NDArray[Any]:
    both = np.empty((len(old) + len(fresh), *fresh.shape[1:]), fresh.dtype)
    both[old_at], both[fresh_at] = old, fresh
    return both


def used_events(start: Index, last: Index, size: int) -> tuple[Index, Index]:
    """Events inside any of the ranges, and each event's number among them."""
    edges = np.zeros(size + 1, np.int64)
    np.add.at(edges, start, 1)
    np.add.at(edges, last + 1, -1)
    inside = np.cumsum(edges[:-1]) > 0
    return np.flatnonzero(inside), np.cumsum(inside) - 1
