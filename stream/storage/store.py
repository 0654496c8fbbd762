r"""User records and the timer index of one partition in RocksDB.

The changelog topic is the truth and RocksDB a copy that may lag behind it and never leads it: it is
written after the commit, one `WriteBatch` per commit, with the offset up to which the changelog is
contained. So the write-ahead log is on, which makes a killed process lose nothing and its batches
whole, and is never fsynced: a machine that crashes loses a tail of batches, which the next recovery
reads again from the changelog.

Keys: `b"u" + user_id` and `b"m"` as in the changelog; `b"t" + due (8 bytes, big-endian) + user key`
is the timer index; `b"\x00..."` is the store's own.
"""

import contextlib
import itertools
import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, Self

import rocksdict

from stream.errors import StoreCorrupt, StoreError
from stream.health.vitals import Progress
from stream.kernels.blocks import Run
from stream.pipeline.due_times import DueOf, DueTimes, dues_of
from stream.storage.damage import ManifestGuard, release, translated
from stream.storage.purging import Purge
from stream.storage.sorted_files import ingest
from stream.storage.store_identity import StoreIdentity, check_identity
from stream.storage.store_options import StoreMemory, open_database

USER_PREFIX: Final = b"u"
PARTITION_KEY: Final = b"m"
NO_OFFSET: Final = -1

Changelog = Iterable[tuple[bytes, bytes | None]]
"""(key, value); a value of None is a tombstone."""
TimerMoves = Iterable[tuple[bytes, int | None, int | None]]
"""(user key, old due, new due) in ms; None: no entry in the index."""

_TIMER: Final = b"t"
_TIMER_END: Final = b"u"
_USER_END: Final = b"v"
_DUE: Final = struct.Struct(">Q")
_OFFSET: Final = struct.Struct("<q")
_OFFSET_KEY: Final = b"\x00changelog-offset"
_RESTORING_KEY: Final = b"\x00restoring"
_CHANGELOG_ID_KEY: Final = b"\x00changelog-id"
_SCAN_CHUNK: Final = 4096


class RecordStore(Protocol):
    """What the pipeline's table and the timers read, and what a commit writes."""

    @property
    def changelog_offset(self) -> int:
        """Offset of the last changelog record contained, -1 when there is none."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of `keys`, in their order."""

    def due(self, until_ms: int, limit: int, after: int = -1) -> list[tuple[int, bytes]]:
        """Return up to `limit` (due, user key), `after` < due <= `until_ms`, ordered."""

    def first_due(self, after: int = -1) -> int | None:
        """Return the earliest due time in the index later than `after`, ms."""

    def apply(self, changelog: Changelog, timers: TimerMoves, changelog_offset: int) -> None:
        """Write one commit atomically: records, timer index, offset."""

    def purge(self, keys: Iterable[bytes]) -> None:
        """Have the files rewritten without what was deleted of these users; returns at once."""

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` user records with a key greater than `after`, in key order."""

    def user_count(self) -> int:
        """Return the number of user records; takes time in proportion."""

    def close(self) -> None:
        """Release everything; a second call does nothing."""


class RocksStore:
    """A `RecordStore` in a folder of its own. All calls from one thread at a time."""

    def __init__(self, database: rocksdict.Rdict, path: Path, memory: StoreMemory) -> None:
        """Take over an open database; use `open`."""
        self.path = path
        self._memory = memory
        # Its types allow for keys other than bytes, which the raw mode has not.
        self._db: Any = database
        self._purge = Purge(database, path)
        self._manifest = ManifestGuard(path)
        self._manifest.note()
        self._loading = False  # counted among the restores that share memory
        self._floor = _TIMER  # no timer entry lies below this key; skips tombstones of fired ones
        with translated(path):
            stored = database.get(_OFFSET_KEY)
            self._restoring = database.get(_RESTORING_KEY) is not None
        self._offset: int = NO_OFFSET if stored is None else _OFFSET.unpack(stored)[0]

    @classmethod
    def open(cls, path: Path, identity: StoreIdentity, memory: StoreMemory | None = None) -> Self:
        """Open the folder, or create it.

        Raises:
            StoreLocked: somebody else has it open.
            StoreForeign: it holds the data of another app, partition count or layout.
            StoreCorrupt: its files are damaged; `wipe` it and restore.
            StoreError: it cannot be read or written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot create the data folder {path}: {error}; check data_dir"
            ) from error
        damage = ManifestGuard(path).damage()
        memory = memory or StoreMemory()
        # Opened all the same: a folder that somebody else has open is locked, not damaged.
        database = open_database(path, memory.options())
        try:
            check_identity(database, path, identity, damage)
            return cls(database, path, memory)
        except BaseException:
            release(database, path)
            raise

    @property
    def changelog_offset(self) -> int:
        """Offset of the last changelog record contained, -1 when there is none."""
        return self._offset

    @property
    def changelog_id(self) -> str:
        """Id (KIP-516) of the changelog topic that `changelog_offset` is of, "" if not noted."""
        return (self.get(_CHANGELOG_ID_KEY) or b"").decode()

    def note_changelog(self, topic_id: str) -> None:
        """Note durably of which topic the offset is."""
        with translated(self.path):
            self._db.put(_CHANGELOG_ID_KEY, topic_id.encode())

    @property
    def restoring(self) -> bool:
        """Whether a full restore has begun and not ended: the timer index is not complete."""
        return self._restoring

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        with translated(self.path):
            value: bytes | None = self._db.get(key)
            return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of `keys`, in their order."""
        if not keys:
            return []
        with translated(self.path):
            values: list[bytes | None] = self._db.get(keys)
            return values

    def due(self, until_ms: int, limit: int, after: int = -1) -> list[tuple[int, bytes]]:
        """Return up to `limit` (due, user key), `after` < due <= `until_ms`, ordered."""
        entries: list[tuple[int, bytes]] = []
        first = after < 0
        start = self._floor if first else max(self._floor, _timer_key(after + 1, b""))
        with translated(self.path):
            for key in self._db.keys(from_key=start):
                if key >= _TIMER_END:
                    if not entries and first:
                        self._floor = _TIMER_END
                    break
                if not entries and first:
                    self._floor = key
                due = _DUE.unpack_from(key, 1)[0]
                if due > until_ms or len(entries) >= limit:
                    break
                entries.append((due, key[9:]))
            else:
                self._check_end(_timer_key(*entries[-1]) if entries else start)
        return entries

    def first_due(self, after: int = -1) -> int | None:
        """Return the earliest due time in the index later than `after`, ms."""
        start = max(self._floor, _timer_key(after + 1, b""))
        with translated(self.path):
            for key in self._db.keys(from_key=start):
                return _DUE.unpack_from(key, 1)[0] if key < _TIMER_END else None
            self._check_end(start)
        return None

    def apply(self, changelog: Changelog, timers: TimerMoves, changelog_offset: int) -> None:
        """Write one commit atomically: records, timer index, offset.

        Raises:
            StoreError: nothing of it was written.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in changelog:
            if value is None:
                delete(key)
            else:
                put(key, value)
        floor = self._floor
        for key, old, new in timers:
            if old is not None and old != new:
                delete(_timer_key(old, key))
            if new is not None:
                entry = _timer_key(new, key)
                put(entry, b"")
                floor = min(floor, entry)
        put(_OFFSET_KEY, _OFFSET.pack(changelog_offset))
        with translated(self.path):
            self._db.write(batch)
        self._manifest.note()
        self._floor, self._offset = floor, changelog_offset

    def purge(self, keys: Iterable[bytes]) -> None:
        """Have the files rewritten without what was deleted of these users; returns at once.

        The whole timer index with them: it may hold entries of earlier due times.
        """
        ranges = [(key, key + b"\x00") for key in keys]
        if ranges:
            self._purge.add([*ranges, (_TIMER, _TIMER_END)])

    @property
    def purged(self) -> bool:
        """Whether all that `purge` asked for is done."""
        return self._purge.idle

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` user records with a key greater than `after`, in key order."""
        records: list[tuple[bytes, bytes]] = []
        with translated(self.path):
            for key, value in self._db.items(from_key=max(after + b"\x00", USER_PREFIX)):
                if key >= _USER_END or len(records) >= limit:
                    break
                records.append((key, value))
            else:
                self._check_end(records[-1][0] if records else after)
        return records

    def _check_end(self, last: bytes) -> None:
        """Raise when reading in order ended behind `last` because of damage.

        RocksDB ends an iteration at a damaged block as it does at the end of all keys.
        """
        cursor = self._db.iter()
        cursor.seek(last + b"\x00")
        cursor.status()
        if cursor.valid() and cursor.key() < _USER_END:
            raise StoreCorrupt(f"{self.path} is damaged: keys behind {last!r} cannot be read")

    def user_count(self) -> int:
        """Count the user records by their keys: a second for a few million. From any thread."""
        with translated(self.path):
            return sum(key < _USER_END for key in self._db.keys(from_key=USER_PREFIX))

    def size_bytes(self) -> int:
        """Return the size of the table files on disk."""
        with translated(self.path):
            return self._db.property_int_value("rocksdb.total-sst-files-size") or 0

    @property
    def run_bytes(self) -> int:
        """What a restore may gather before it is loaded."""
        return self._memory.run_bytes

    def begin_restore(self) -> None:
        """Note durably that a full restore has begun, and open the folder for bulk loading."""
        with translated(self.path):
            self._db.put(_RESTORING_KEY, b"")
        self._restoring = True
        self._reopen(self._memory.bulk_options())
        self._memory.restores += 1
        self._loading = True

    def load(self, records: Run, changelog_offset: int) -> None:
        """Write records of a full restore, without their timers.

        The offset is noted behind them, so a restore that is interrupted goes on before what it
        may have lost.
        """
        with translated(self.path):
            self._ingest(records)
            self._db.put(_OFFSET_KEY, _OFFSET.pack(changelog_offset))
        self._offset = changelog_offset

    def end_restore(
        self,
        due_of: DueOf,
        changelog_offset: int,
        progress: Progress | None = None,
        dues: DueTimes | None = None,
    ) -> None:
        """Build the timer index, then end the restore.

        Args:
            due_of: due times of records; asked where `dues` does not know them.
            changelog_offset: that of the last record.
            progress: told how far it is.
            dues: those of all records that were loaded.
        """
        with translated(self.path):
            self._db.delete_range(_TIMER, _TIMER_END)  # of an interrupted attempt
            if dues is not None and dues.complete:
                self._ingest(dues.index())
            else:
                self._index_records(due_of, progress or Progress())
            batch = rocksdict.WriteBatch(raw_mode=True)
            batch.put(_OFFSET_KEY, _OFFSET.pack(changelog_offset))
            batch.delete(_RESTORING_KEY)
            self._db.write(batch)
        self._reopen(self._memory.options())
        self._floor, self._offset, self._restoring = _TIMER, changelog_offset, False

    def _index_records(self, due_of: DueOf, progress: Progress) -> None:
        last = USER_PREFIX
        # One cursor over all of it, which sees nothing of what is written meanwhile.
        users = self._db.items(from_key=USER_PREFIX)
        while chunk := list(itertools.islice(users, _SCAN_CHUNK)):
            last = chunk[-1][0]
            batch = rocksdict.WriteBatch(raw_mode=True)
            dues = dues_of(due_of, [value for _, value in chunk])
            for (key, _), due in zip(chunk, dues, strict=True):
                if due is not None:
                    batch.put(_timer_key(due, key), b"")
            self._db.write(batch)
            progress.done += len(chunk)
        del users  # an open cursor keeps the folder locked
        self._check_end(last)

    def _ingest(self, run: Run) -> None:
        ingest(self._db, self.path, run)
        self._manifest.note()

    def _reopen(self, options: rocksdict.Options) -> None:
        self.close()
        self._db = open_database(self.path, options)
        self._purge = Purge(self._db, self.path)
        self._manifest.note()

    def merge(
        self, records: Mapping[bytes, bytes | None], due_of: DueOf, changelog_offset: int
    ) -> None:
        """Write changelog records over older ones, timers included."""
        users = [key for key in records if key.startswith(USER_PREFIX)]
        old = dues_of(due_of, self.get_many(users))
        new = dues_of(due_of, [records[key] for key in users])
        self.apply(records.items(), zip(users, old, new, strict=True), changelog_offset)

    def close(self) -> None:
        """Close the database and release its lock; a second call does nothing."""
        if self._loading:
            self._memory.restores -= 1
            self._loading = False
        self._purge.stop()
        release(self._db, self.path)
        with contextlib.suppress(StoreError):
            self._manifest.note()  # closing flushes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wipe(path: Path) -> None:
    """Remove a store's folder, which must not be open.

    Raises:
        StoreError: it cannot be removed.
    """
    try:
        if path.exists():
            shutil.rmtree(path)
    except OSError as error:
        raise StoreError(f"cannot remove the damaged data folder {path}: {error}") from error


def _timer_key(due: int, key: bytes) -> bytes:
    return _TIMER + _DUE.pack(due) + key
