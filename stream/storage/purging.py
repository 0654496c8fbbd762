"""Files of a store rewritten without users who were erased.

RocksDB keeps a deleted record in its files until it merges them, which for a user nobody asks about
may take for ever. A range is merged at once on demand, beside reading and writing; that takes a
second or so, so a thread of its own does it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Range = tuple[bytes, bytes]
"""Keys from the first up to the second, which is not among them."""

_JOIN_S: Final = 10.0

log = structlog.get_logger(__name__)


class Purge:
    """The ranges of one database that are to be merged, and the thread that does it."""

    def __init__(self, database: Any, path: Path) -> None:
        """Begin nothing; `database` is open until `stop` has returned."""
        self._database = database
        self._path = path
        self._lock = threading.Lock()
        self._waiting: list[Range] = []
        self._thread: threading.Thread | None = None
        self._stopping = False

    def add(self, ranges: Sequence[Range]) -> None:
        """Have files rewritten that hold keys of these ranges; returns at once."""
        with self._lock:
            self._waiting.extend(ranges)
            if self._thread is None and self._waiting and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="purge", daemon=True)
                self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether all that was asked for is done."""
        with self._lock:
            return self._thread is None

    def stop(self) -> None:
        """Finish the range that is being merged, and give up the others."""
        with self._lock:
            self._stopping, self._waiting = True, []
            thread = self._thread
        if thread is not None:
            thread.join(_JOIN_S)

    def _run(self) -> None:
        began, done = time.monotonic(), 0
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    break
                ranges = self._waiting.pop(0)
            try:
                self._database.compact_range(*ranges)
            except Exception as error:  # noqa: BLE001  # rocksdict raises nothing narrower
                log.warning("files still hold erased users", path=str(self._path), error=str(error))
            done += 1
        log.info(
            "files are rewritten without erased users",
            path=str(self._path),
            ranges=done,
            seconds=round(time.monotonic() - began, 3),
        )
