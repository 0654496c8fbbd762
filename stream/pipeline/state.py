"""The whole user record, and the write-back table of one partition's records.

A record is one row of a NumPy arena: the serving fields, the hidden state, then the history
(``models/history.py``) with the ring last; few users hold more than that (``models/overflow.py``).
How it is stored is in ``stream/pipeline/layout.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.overflow import Overflow
from stream.pipeline.layout import LAYOUT_VERSION, Layout, indexed_due

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.history import Records

USER_PREFIX: Final = b"u"
META_KEY: Final = b"m"

_START_ROWS: Final = 1024
_RESERVED_BYTES: Final = 512 << 20
"""Address space taken at once, which takes memory only as rows are used; growing copies."""
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
        at_once = min(capacity + capacity // 4, _RESERVED_BYTES // layout.dtype.itemsize)
        first = max(_START_ROWS, at_once)
        self._allocate(first)
        self.overflow = Overflow(first)

    def _allocate(self, rows: int) -> None:
        self.records: Records = np.zeros(rows, self.layout.dtype)
        self._bytes = self.records.view(np.uint8).reshape(rows, self.layout.dtype.itemsize)
        self._stored_due = np.zeros(rows, np.int64)
        self._used = np.zeros(rows, np.int64)
        self._dirty = np.zeros(rows, np.bool_)
        self.scratch = np.zeros(rows, np.int64)
        """A number per row that is 0 between two calls."""

    def _new_rows(self, count: int) -> list[int]:
        """Rows that are all zero."""
        again = min(count, len(self._free))
        rows = [self._free.pop() for _ in range(again)]
        first, more = len(self._key_of), count - again
        if first + more > len(self.records):
            self._grow(2 * (first + more))
        self._key_of += [b""] * more
        return rows + list(range(first, first + more))

    def _grow(self, rows: int) -> None:
        count = len(self._key_of)
        old = self._columns()
        self._allocate(rows)
        self.overflow.grow(rows)
        for target, source in zip(self._columns(), old, strict=True):
            target[:count] = source[:count]

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self._bytes, self._stored_due, self._used, self._dirty

    def __len__(self) -> int:
        return len(self._row_of)

    def rows(self, keys: list[bytes]) -> NDArray[np.intp]:
        """Rows of the given stored keys, loading or creating what is not in memory."""
        row_of = self._row_of
        found = [row_of.get(key, -1) for key in keys]
        if -1 in found:
            missing = (key for key, row in zip(keys, found, strict=True) if row < 0)
            self._load(list(dict.fromkeys(missing)))
            found = [row_of[key] for key in keys]
        rows = np.array(found, np.intp)
        self._epoch += 1
        self._used[rows] = self._epoch
        return rows

    def _load(self, missing: list[bytes]) -> None:
        places = self._new_rows(len(missing))
        rows, head = np.array(places, np.intp), self.records
        head["layout"][rows] = LAYOUT_VERSION
        head["ring_size"][rows], head["hidden_size"][rows] = self.layout.ring, self.layout.hidden
        head["offset"][rows] = -1
        self._row_of.update(zip(missing, places, strict=True))
        for key, row in zip(missing, places, strict=True):
            self._key_of[row] = key
        asked = [i for i, key in enumerate(missing) if not self.forgotten(key)]
        self._read([missing[i] for i in asked], rows[asked])
        if self._gone:
            for key in self._gone.keys() & set(missing):
                row = self._row_of[key]
                self._stored_due[row] = self._gone.pop(key)
                # Without a new record in its place the tombstone would be lost.
                self._dirty[row] = True

    def _read(self, keys: list[bytes], rows: NDArray[np.intp]) -> None:
        """Fill rows with what the store has of their keys."""
        values = self._store.get_many(keys) if keys else []
        found = [i for i, value in enumerate(values) if value is not None]
        if not found:
            return
        there = [values[i] for i in found]
        held = self.layout.unpack([keys[i] for i in found], there, self._bytes, rows[found])  # type: ignore[arg-type]
        for row, entries in held.items():
            self.overflow.put(self.records, row, entries)
        due = [indexed_due(value) or 0 for value in there]  # type: ignore[arg-type]
        self._stored_due[rows[found]] = due

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
        self.overflow.release(row)
        self._dirty[row] = False
        self._stored_due[row] = 0
        self._free.append(row)

    def drain(self, rebuilt: int = 0) -> Changes:
        """Take all changes since the last drain, in stored form.

        Users of at most ``rebuilt`` events are stored without the model's state.
        """
        rows = self.dirty_rows()
        puts: list[tuple[bytes, bytes | None]] = []
        timers: list[tuple[bytes, int | None, int | None]] = []
        for key, due in self._gone.items():
            puts.append((key, None))
            if due:
                timers.append((key, due, None))
        self._leaving.update(self._gone)
        self._gone.clear()
        keys = self._key_of
        puts += zip(
            [keys[row] for row in rows.tolist()],
            self.layout.packed(self._bytes, rows, rebuilt, self.overflow),
            strict=True,
        )
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
        self.overflow.tidy(self.records)
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
