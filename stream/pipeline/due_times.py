"""The due times of all users while a changelog is read, so that nothing is read twice for them.

They are columns, not objects: some 40 bytes for each user, and they are given up where that becomes
too much.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.history import I64
from models.kernels.xxh3 import U8
from stream.kernels.blocks import Run
from stream.kernels.buffers import gathered, joined
from stream.kernels.ordering import newest_in_order, stable_order, timer_entries

MOST_USERS: Final = 1 << 20
"""As many as a partition may have before its due times are read from the database instead."""
NO_DUE: Final = -1
"""Of a user whom no timer has to look at."""
B1 = NDArray[np.bool_]
DueOf = Callable[[U8, I64, I64], I64]
"""The due times, ms or `NO_DUE`, that user records ask for: of the bytes that hold the records, and
where in them each begins and ends."""
_ENTRY_BYTES: Final = 9


class DueTimes:
    """Collects the newest due time of each user."""

    def __init__(self, most_users: int = MOST_USERS) -> None:
        """Know of nobody."""
        self.complete = True
        """False once there were too many users: nothing is known then."""
        self._most = most_users
        self._keys: list[U8] = []
        self._sizes: list[I64] = []
        self._dues: list[I64] = []
        self._count = 0

    def add(self, data: U8, begins: I64, ends: I64, dues: I64) -> None:
        """Take in newer due times of users, ms or `NO_DUE`.

        Args:
            data: what holds the stored keys of N users; not kept.
            begins: [N] where each begins.
            ends: [N] where each ends.
            dues: [N].
        """
        if not self.complete or not len(dues):
            return
        self._keys.append(gathered(data, begins, ends))
        self._sizes.append(ends - begins)
        self._dues.append(dues)
        self._count += len(dues)
        if self._count > 2 * self._most:
            self._forget_older()

    def index(self) -> Run:
        """The timer index: a key for each user who has a due time, in order; empty values."""
        if self._count:
            self._forget_older()
        if not self._count:
            none = np.zeros(0, np.int64)
            return Run(np.zeros(1, np.uint8), none, none, none, none)
        data, sizes, dues = self._keys[0], self._sizes[0], self._dues[0]
        ends = np.cumsum(sizes)
        order = stable_order(dues.view(np.uint64), data, ends - sizes, ends)
        order = order[: np.count_nonzero(dues != NO_DUE)]  # which, unsigned, is the greatest
        out = np.empty(int(sizes[order].sum()) + _ENTRY_BYTES * len(order), np.uint8)
        stops = timer_entries(data, ends - sizes, ends, order, dues, out)
        nothing = np.zeros(len(order), np.int64)
        return Run(out, stops - sizes[order] - _ENTRY_BYTES, stops, nothing, nothing)

    def _forget_older(self) -> None:
        """Keep the newest of each user; give up if these are too many."""
        data, sizes = np.concatenate(self._keys), np.concatenate(self._sizes)
        dues, ends = np.concatenate(self._dues), np.cumsum(sizes)
        newest = newest_in_order(data, ends - sizes, ends)
        self.complete = len(newest) <= self._most
        chosen = np.zeros(len(ends), np.bool_)
        chosen[newest] = self.complete
        self._count = int(chosen.sum())
        self._keys = [data[np.repeat(chosen, sizes)]]
        self._sizes, self._dues = [sizes[chosen]], [dues[chosen]]


def dues_where(due_of: DueOf, data: U8, begins: I64, ends: I64, there: B1) -> I64:
    """The due times [N] of the records that are `there` [N], ms; `NO_DUE` of the others."""
    dues = np.full(len(there), NO_DUE)
    dues[there] = due_of(data, begins[there], ends[there])
    return dues


def dues_of(due_of: DueOf, values: Sequence[bytes | None]) -> list[int | None]:
    """The due times of a few records, ms; None for no record and for one that asks for none."""
    data, ends = joined(values)
    begins = np.concatenate((np.zeros(1, np.int64), ends))[:-1]
    there = np.array([value is not None for value in values], np.bool_)
    dues = dues_where(due_of, data, begins, ends, there)
    return [None if due == NO_DUE else due for due in dues.tolist()]
