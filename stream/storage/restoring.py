"""A full restore: changelog records -> sorted runs in an empty store -> the timer index."""

from concurrent.futures import Future, ThreadPoolExecutor

from stream.health.vitals import Progress
from stream.kernels.batches import ABSENT
from stream.kernels.blocks import Run
from stream.pipeline.due_times import DueOf, DueTimes, dues_where
from stream.pipeline.records import Records
from stream.storage.changelog import STATE
from stream.storage.store import NO_OFFSET, USER_PREFIX, RocksStore


class Restoring:
    """Gathers records until they make a run; calls come from one thread at a time.

    A run is written by a thread of its own while the next one is gathered. Nothing here is done
    record by record in Python, so that what is received meanwhile on the event loop has the
    interpreter's lock for itself.
    """

    def __init__(self, store: RocksStore, due_of: DueOf) -> None:
        """`store`: empty, or in the midst of a restore that was interrupted."""
        self._store = store
        self._due_of = due_of
        # What an interrupted restore has read is in the database alone.
        self._dues = DueTimes() if store.changelog_offset == NO_OFFSET else None
        self._run: list[Records] = []
        self._bytes = 0
        self._offset = store.changelog_offset
        self._writer = ThreadPoolExecutor(1, "restoring")
        self._writing: Future[None] | None = None

    def begin(self) -> None:
        """Note durably that a restore has begun; before anything is taken."""
        self._store.begin_restore()

    def take(self, records: Records, changelog_offset: int) -> None:
        """Take in records up to an offset; they reach the database later.

        Raises:
            StoreError: an earlier run could not be written.
        """
        self._run.append(records)
        self._bytes += len(records.data)
        self._offset = changelog_offset
        if self._bytes >= self._store.run_bytes:
            self._wait()
            self._writing = self._writer.submit(self._write, self._run, self._offset)
            self._run, self._bytes = [], 0

    def finish(self, changelog_offset: int, progress: Progress) -> None:
        """Write what is left and the timer index; the store serves from now on.

        Raises:
            StoreError: it cannot be written, or an earlier run could not.
        """
        self._wait()
        if self._run:
            self._write(self._run, self._offset)
        self._store.end_restore(self._due_of, changelog_offset, progress, self._dues)

    def close(self) -> None:
        """Wait until nobody writes to the store any more; a second call does nothing."""
        self._writer.shutdown()

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, several: list[Records], changelog_offset: int) -> None:
        run = Records.together(several).newest_run(STATE)
        self._store.load(run, changelog_offset)
        if self._dues is not None:
            self._note_dues(self._dues, run)

    def _note_dues(self, known: DueTimes, run: Run) -> None:
        users = run.data[run.key_begins] == USER_PREFIX[0]
        keys, key_ends, begins, ends = (column[users] for column in run[1:])
        dues = dues_where(self._due_of, run.data, begins, ends, begins != ABSENT)
        known.add(run.data, keys, key_ends, dues)
