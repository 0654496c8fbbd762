"""The whole user record, and the write-back table of one partition's records.

A record is one row of a NumPy arena: the serving fields, the hidden state, then the history
(``models/history.py``) with the ring last, so that the stored form is simply the row cut off behind
its last used ring slot (and sealed: ``stream/layout.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.history import ENTRY
from stream.layout import LAYOUT_VERSION, Layout, indexed_due, seal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.history import Records

USER_PREFIX: Final = b"u"
META_KEY: Final = b"m"

_START_ROWS: Final = 1024
_KEEP_AFTER_EVICTION: Final = 0.75


class RecordReader(Protocol):
    """What a table needs of the store beneath it."""

    def get_many(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """Return stored values in the order of ``keys``, None where there is none."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to a table since the last drain."""

    puts: list[tuple[bytes, bytes | None]]
    """Stored key -> record, None for a user who was forgotten."""
    timers: list[tuple[bytes, int | None, int | None]]
    """(stored key, due in the index until now, due from now on)."""


class UserTable:
    """Write-back cache of one partition's user records over its store.

    Rows live in ``records``; a row number stays valid until the next ``committed()``.
    """

    def __init__(self, layout: Layout, store: RecordReader, capacity: int) -> None:
        """Start empty; at most about ``capacity`` clean records stay in memory."""
        self.layout = layout
        self._store = store
        self._capacity = capacity
        self._row_of: dict[bytes, int] = {}
        self._gone: dict[bytes, int] = {}
        self._leaving: set[bytes] = set()
        self._drained = np.zeros(0, np.intp)
        self._epoch = 0
        self._free: list[int] = []
        self._key_of: list[bytes] = []
        self.records: Records = np.zeros(0, layout.dtype)
        self._stored_due = np.zeros(0, np.int64)
        self._used = np.zeros(0, np.int64)
        self._dirty = np.zeros(0, np.bool_)
        self._reserve(_START_ROWS)

    def _reserve(self, rows: int) -> None:
        """Grow to ``rows`` rows."""
        more = rows - len(self.records)
        self._free.extend(range(rows - 1, len(self.records) - 1, -1))
        self.records = np.concatenate([self.records, np.zeros(more, self.layout.dtype)])
        self._bytes = self.records.view(np.uint8).reshape(rows, self.layout.dtype.itemsize)
        self._stored_due = np.concatenate([self._stored_due, np.zeros(more, np.int64)])
        self._used = np.concatenate([self._used, np.zeros(more, np.int64)])
        self._dirty = np.concatenate([self._dirty, np.zeros(more, np.bool_)])
        self._key_of += [b""] * more

    def __len__(self) -> int:
        return len(self._row_of)

    def rows(self, keys: list[bytes]) -> NDArray[np.intp]:
        """Rows of the given stored keys, loading or creating what is not in memory."""
        row_of = self._row_of
        found = [row_of.get(key, -1) for key in keys]
        if -1 in found:
            self._load(list({key for key, row in zip(keys, found, strict=True) if row < 0}))
            found = [row_of[key] for key in keys]
        rows = np.array(found, np.intp)
        self._epoch += 1
        self._used[rows] = self._epoch
        return rows

    def _load(self, missing: list[bytes]) -> None:
        while len(self._free) < len(missing):
            self._reserve(len(self.records) * 2)
        asked = [key for key in missing if not self.forgotten(key)]
        stored = dict(zip(asked, self._store.get_many(asked), strict=True)) if asked else {}
        for key in missing:
            row = self._free.pop()
            value = stored.get(key)
            if value is None:
                head = self.records[row]
                head["layout"] = LAYOUT_VERSION
                head["ring_size"], head["hidden_size"] = self.layout.ring, self.layout.hidden
                head["offset"] = -1
                self._stored_due[row] = self._gone.get(key, 0)
                # Without a new record in its place the tombstone would be lost.
                self._dirty[row] = self._gone.pop(key, None) is not None
            else:
                body = self.layout.body(key, value)
                self._bytes[row, : len(body)] = np.frombuffer(body, np.uint8)
                self._stored_due[row] = indexed_due(value) or 0
            self._row_of[key] = row
            self._key_of[row] = key

    def key(self, row: int) -> bytes:
        """The stored key of a row."""
        return self._key_of[row]

    def user_id(self, row: int) -> str:
        """The user of a row."""
        return self._key_of[row][len(USER_PREFIX) :].decode()

    def touch(self, rows: NDArray[np.intp]) -> None:
        """Mark rows as changed."""
        self._dirty[rows] = True

    def dirty_rows(self) -> NDArray[np.intp]:
        """Rows changed since the last drain."""
        return np.flatnonzero(self._dirty)

    def unsettled_rows(self) -> NDArray[np.intp]:
        """Rows that the store does not hold as they are: changed, or drained and on their way."""
        return np.union1d(self.dirty_rows(), self._drained)

    def forgotten(self, key: bytes) -> bool:
        """Whether the user was deleted and the store may not know of it yet."""
        return key in self._gone or key in self._leaving

    def forget(self, row: int) -> None:
        """Delete a user: the next drain has a tombstone, a later event starts from nothing."""
        key = self._key_of[row]
        self._gone[key] = int(self._stored_due[row])
        self._release(row)

    def _release(self, row: int) -> None:
        del self._row_of[self._key_of[row]]
        self._key_of[row] = b""
        self._bytes[row] = 0
        self._dirty[row] = False
        self._stored_due[row] = 0
        self._free.append(row)

    def drain(self) -> Changes:
        """Take all changes since the last drain, in stored form."""
        rows = self.dirty_rows()
        puts: list[tuple[bytes, bytes | None]] = []
        timers: list[tuple[bytes, int | None, int | None]] = []
        for key, due in self._gone.items():
            puts.append((key, None))
            if due:
                timers.append((key, due, None))
        self._leaving.update(self._gone)
        self._gone.clear()
        used = np.minimum(self.records["n"][rows].astype(np.int64), self.layout.ring)
        lengths = (self.layout.fixed + used * ENTRY.itemsize).tolist()
        for row, length in zip(rows.tolist(), lengths, strict=True):
            puts.append((self._key_of[row], seal(self._bytes[row, :length].tobytes())))
        listed = self.records["indexed_due"][rows]
        moved = listed != self._stored_due[rows]
        for row in rows[moved].tolist():
            old, new = int(self._stored_due[row]), int(self.records["indexed_due"][row])
            timers.append((self._key_of[row], old or None, new or None))
        self._stored_due[rows] = listed
        self._dirty[rows] = False
        self._drained = rows
        return Changes(puts, timers)

    def committed(self) -> None:
        """All drained changes are in the store: clean rows may leave memory. Row numbers expire."""
        self._leaving.clear()
        self._drained = self._drained[:0]
        excess = len(self._row_of) - self._capacity
        if excess <= 0:
            return
        rows = np.fromiter(self._row_of.values(), np.intp, len(self._row_of))
        clean = rows[~self._dirty[rows]]
        count = min(len(clean), len(rows) - int(self._capacity * _KEEP_AFTER_EVICTION))
        if count <= 0:
            return
        oldest = clean[np.argpartition(self._used[clean], count - 1)[:count]]
        for row in oldest.tolist():
            self._release(row)
