"""The due times of all users while a changelog is read, so that nothing is read twice for them.

They are columns, not objects: some 40 bytes for each user, and they are given up where that becomes
too much.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from models.history import I64
from models.kernels.xxh3 import U8
from stream.kernels.buffers import cut, joined
from stream.kernels.ordering import newest_in_order, stable_order, timer_entries

MOST_USERS: Final = 1 << 20
"""As many as a partition may have before its due times are read from the database instead."""
_NONE: Final = -1
_ENTRY_BYTES: Final = 9
_CHUNK: Final = 1 << 16


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

    def add(self, keys: Sequence[bytes], dues: Sequence[int | None]) -> None:
        """Take in newer due times of users (stored keys); None: there is none any more."""
        if not self.complete or not keys:
            return
        data, ends = joined(keys)
        self._keys.append(data)
        self._sizes.append(np.diff(ends, prepend=0))
        self._dues.append(np.array([_NONE if due is None else due for due in dues], np.int64))
        self._count += len(keys)
        if self._count > 2 * self._most:
            self._forget_older()

    def entries(self) -> Iterator[bytes]:
        """Yield the timer index: a key for each user who has a due time, in order."""
        if not self._count:
            return
        self._forget_older()
        data, sizes, dues = self._keys[0], self._sizes[0], self._dues[0]
        ends = np.cumsum(sizes)
        order = stable_order(dues.view(np.uint64), data, ends - sizes, ends)
        order = order[: np.count_nonzero(dues != _NONE)]  # which, without a sign, is the greatest
        for first in range(0, len(order), _CHUNK):
            chosen = order[first : first + _CHUNK]
            out = np.empty(int(sizes[chosen].sum()) + _ENTRY_BYTES * len(chosen), np.uint8)
            stops = timer_entries(data, ends - sizes, ends, chosen, dues, out)
            yield from cut(out, stops)

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
