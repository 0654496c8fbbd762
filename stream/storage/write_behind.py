"""A store that writes user records to RocksDB later than they are committed, and less often.

A user who is active changes in commit after commit, and each write costs RocksDB the sorting, the
log and the merging. The changelog has all of it anyway. So records wait in memory, and the database
lags behind by a bounded number of changelog records: what a kill costs is reading these again.

It lags without holes that matter: what it notes as its changelog offset is contained, and of what
came later it may hold any part, as the next recovery writes all of that over it. The timer index is
written at once (each entry is a record of its own, and due ones must be found), and the partition's
own record with it: a disk that takes nothing any more is noticed at the next commit.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

import structlog

from stream.errors import StoreError
from stream.storage.store import PARTITION_KEY, Changelog, RecordStore, TimerMoves
from stream.storage.store_options import StoreMemory

_AHEAD: Final = 2
"""Records written per record committed while a generation is being written: it is done when half of
the next has come."""
_LEAST: Final = 64
_LARGEST: Final = 16_384
_ABSENT: Final = b"\x00absent"
"""Stands for what is not in memory; no stored value is this object."""

log = structlog.get_logger(__name__)


class WriteBehind:
    """A `RecordStore` in front of another; takes over its closing.

    Two generations wait: the younger takes in what is committed, the older is being written.
    """

    def __init__(self, store: RecordStore, memory: StoreMemory) -> None:
        """`memory` says how many records may wait, in all stores of the process together."""
        self._store = store
        self._memory = memory
        memory.stores += 1
        self._young: dict[bytes, bytes | None] = {}
        self._young_from = self._offset = store.changelog_offset
        self._old: dict[bytes, bytes | None] = {}
        self._old_end = self._offset
        self._queue: list[bytes] = []
        self._next = 0
        self._usable = True

    @property
    def changelog_offset(self) -> int:
        """Offset of the last changelog record contained, here or in the database."""
        return self._offset

    @property
    def behind(self) -> int:
        """Records that the database does not hold yet, at most."""
        return len(self._young) + len(self._queue) - self._next

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        value = self._waiting(key)
        return self._store.get(key) if value is _ABSENT else value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of `keys`, in their order."""
        if not self._young and not self._old:
            return self._store.get_many(keys)
        values = [self._waiting(key) for key in keys]
        absent = [place for place, value in enumerate(values) if value is _ABSENT]
        stored = self._store.get_many([keys[place] for place in absent])
        for place, value in zip(absent, stored, strict=True):
            values[place] = value
        return values

    def due(self, until_ms: int, limit: int, after: int = -1) -> list[tuple[int, bytes]]:
        """Return up to `limit` (due, user key), `after` < due <= `until_ms`, ordered."""
        return self._store.due(until_ms, limit, after)

    def first_due(self, after: int = -1) -> int | None:
        """Return the earliest due time in the index later than `after`, ms."""
        return self._store.first_due(after)

    def apply(self, changelog: Changelog, timers: TimerMoves, changelog_offset: int) -> None:
        """Take in one commit: its timers are written, its records wait.

        Raises:
            StoreError: the database cannot be written. The records that wait are given up: the
                partition is opened anew and reads them from the changelog.
        """
        records = list(changelog)
        self._young.update(records)
        self._offset = changelog_offset
        own = self._young.pop(PARTITION_KEY, _ABSENT)
        half = self._memory.waiting_records // (2 * self._memory.stores)
        if not self._old and changelog_offset - self._young_from > half:
            self._age()
        part = self._take(_AHEAD * len(records) + _LEAST)
        if own is not _ABSENT:
            part.append((PARTITION_KEY, own))
        self._write(part, timers)

    def settle(self, limit: int = _LARGEST) -> bool:
        """Write up to `limit` records that wait; return whether more do.

        Raises:
            StoreError: as in `apply`.
        """
        if not self._old:
            self._age()
        self._write(self._take(limit), ())
        return self.behind > 0

    def purge(self, keys: Iterable[bytes]) -> None:
        """Write what waits of these users now, and have the files rewritten without the rest.

        Raises:
            StoreError: as in `apply`.
        """
        waiting = [(key, self._waiting(key)) for key in keys]
        part = [(key, value) for key, value in waiting if value is not _ABSENT]
        try:
            self._store.apply(part, (), self._store.changelog_offset)
        except BaseException:
            self._give_up()
            raise
        for key, _ in part:
            # Written once: another tombstone later would bring the key back into the files.
            self._young.pop(key, None)
            self._old.pop(key, None)
        self._store.purge(key for key, _ in waiting)

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` user records with a key greater than `after`, in key order."""
        while self.settle():
            pass
        return self._store.scan(after, limit)

    def user_count(self) -> int:
        """Return the number of user records in the database; the newest may be missing."""
        return self._store.user_count()

    def close(self) -> None:
        """Write what waits, unless writing has failed, and release everything."""
        if not self._usable:
            return
        try:
            while self.settle():
                pass
        except StoreError as error:
            # The changelog has it.
            log.warning("the local state stays behind", error=str(error))
        else:
            self._give_up()

    def _waiting(self, key: bytes) -> bytes | None:
        value = self._young.get(key, _ABSENT)
        return self._old.get(key, _ABSENT) if value is _ABSENT else value

    def _age(self) -> None:
        """The younger generation becomes the older one."""
        self._old, self._young = self._young, {}
        self._queue, self._next = list(self._old), 0
        self._old_end = self._young_from = self._offset

    def _take(self, count: int) -> list[tuple[bytes, bytes | None]]:
        """Take the next records of the older generation, with their newest values."""
        young, old = self._young, self._old
        keys = list(islice(self._queue, self._next, self._next + count))
        self._next += len(keys)
        return [
            (key, young.pop(key) if key in young else old[key])
            for key in keys
            if key in young or key in old
        ]

    def _write(self, part: list[tuple[bytes, bytes | None]], timers: TimerMoves) -> None:
        done = self._next >= len(self._queue)
        contained = self._old_end if done else self._store.changelog_offset
        try:
            self._store.apply(part, timers, contained)
        except BaseException:
            self._give_up()
            raise
        if done:
            self._old, self._queue, self._next = {}, [], 0

    def _give_up(self) -> None:
        # After a failure what was taken out is lost to memory: nothing may be noted as contained.
        self._usable = False
        self._memory.stores -= 1
        self._store.close()
