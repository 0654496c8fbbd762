"""A full restore: changelog records -> sorted runs in an empty store -> the timer index."""

from collections.abc import Iterable, Iterator

from stream.changelog import STATE
from stream.due_times import DueTimes
from stream.records import Records
from stream.store import NO_OFFSET, USER_PREFIX, DueOf, RocksStore
from stream.vitals import Progress


class Restoring:
    """Gathers records until they make a run; calls come from one thread at a time."""

    def __init__(self, store: RocksStore, due_of: DueOf) -> None:
        """`store`: empty, or in the midst of a restore that was interrupted."""
        self._store = store
        self._due_of = due_of
        # What an interrupted restore has read is in the database alone.
        self._dues = DueTimes() if store.changelog_offset == NO_OFFSET else None
        self._run: list[Records] = []
        self._bytes = 0
        self._offset = store.changelog_offset

    def begin(self) -> None:
        """Note durably that a restore has begun; before anything is taken."""
        self._store.begin_restore()

    def take(self, records: Records, changelog_offset: int) -> None:
        """Take in records up to an offset; they reach the database with a later call."""
        self._run.append(records)
        self._bytes += len(records.data)
        self._offset = changelog_offset
        if self._bytes >= self._store.run_bytes:
            self._write()

    def finish(self, changelog_offset: int, progress: Progress) -> None:
        """Write what is left and the timer index; the store serves from now on."""
        if self._run:
            self._write()
        self._store.end_restore(self._due_of, changelog_offset, progress, self._dues)

    def _write(self) -> None:
        records, self._run, self._bytes = Records.together(self._run), [], 0
        newest = records.newest(STATE)
        if self._dues is None:
            self._store.load(newest, self._offset)
            return
        users: list[bytes] = []
        dues: list[int | None] = []
        self._store.load(self._noting_dues(newest, users, dues), self._offset)
        self._dues.add(users, dues)

    def _noting_dues(
        self,
        newest: Iterable[tuple[bytes, bytes | None]],
        users: list[bytes],
        dues: list[int | None],
    ) -> Iterator[tuple[bytes, bytes | None]]:
        due_of, user = self._due_of, USER_PREFIX[0]
        for key, value in newest:
            if key[0] == user:
                users.append(key)
                dues.append(None if value is None else due_of(value))
            yield key, value
