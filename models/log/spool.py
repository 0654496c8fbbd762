"""An event log on disk, cut into ranges of users, for logs that do not fit into memory.

Events are appended in order of arrival and read back range by range; within a range they are still
in that order. Ranges follow the user's hash, so that the parts, each sorted by user, follow one
another in the order of the whole log, and a log gives the same result in one part or in many.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.history import I64, Events
from models.log.eventlog import EventLog

ROW: Final = np.dtype(
    [
        ("user", "<u8"),
        ("time", "<i8"),
        ("id", "<u8"),
        ("amount", "<i8"),
        ("discount", "<i8"),
        ("arrived", "<i8"),
        ("item", "<u4"),
        ("order", "<u4"),
        ("quantity", "<u4"),
        ("category", "<u2"),
        ("type", "u1"),
        ("came", "u1"),
    ]
)
BITS: Final = 6
"""2 ** BITS ranges: ten million events are read 160,000 at a time."""

Keep = Callable[[NDArray[np.uint64], I64], NDArray[np.bool_]]
"""(users [N], times of arrival [N], ms) -> which events may be used."""


class Spool:
    """Appended in order of arrival, read by ranges of users.

    Its files have no names: nothing stays behind, however the process ends.
    """

    def __init__(self, folder: Path | None = None, bits: int = BITS) -> None:
        """Keep the files under `folder`, or in the system's place for temporary files."""
        self._bits = bits
        self._folder = folder
        self._size = 0
        self._files: dict[int, IO[bytes]] = {}
        self._close = weakref.finalize(self, _close_all, self._files)

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the disk back."""
        self.close()

    def __len__(self) -> int:
        """Events that are there."""
        return self._size

    def append(self, log: EventLog, arrived: I64 | None = None) -> None:
        """Add events; `arrived` is the broker's time of each, ms.

        Raises:
            DatasetError: they cannot be written.
        """
        if not len(log):
            return
        rows = np.zeros(len(log), ROW)
        rows["user"] = log.users
        for name in Events.__slots__:
            rows[name] = getattr(log.events, name)
        if arrived is not None:
            rows["arrived"] = arrived
        if log.came is not None:
            rows["came"] = log.came
        where = log.users >> np.uint64(64 - self._bits)
        order = np.argsort(where, kind="stable")
        rows, where = rows[order], where[order]
        edges = np.flatnonzero(np.append(True, where[1:] != where[:-1]))
        try:
            for start, end in zip(edges, [*edges[1:], len(rows)], strict=True):
                self._file(int(where[start])).write(rows[start:end].tobytes())
        except OSError as error:
            place = self._folder or tempfile.gettempdir()
            raise DatasetError(
                f"cannot keep the events under {place} while they are sorted: {error}; make room"
            ) from error
        self._size += len(rows)

    def parts(self) -> Iterator[EventLog]:
        """The events of each range that has any, ascending; within a range in order of arrival."""
        for number in sorted(self._files):
            rows = self._rows(number)
            if len(rows):
                columns = (np.ascontiguousarray(rows[name]) for name in Events.__slots__)
                users, came = (np.ascontiguousarray(rows[name]) for name in ("user", "came"))
                yield EventLog(users, Events(*columns), came)

    def forget(self, keep: Keep) -> int:
        """Remove the events that may not be used, from the disk too; returns how many."""
        removed = 0
        for number, file in self._files.items():
            rows = self._rows(number)
            kept = rows[keep(rows["user"], rows["arrived"])]
            if len(kept) < len(rows):
                removed += len(rows) - len(kept)
                file.seek(0)
                file.truncate()
                file.write(kept.tobytes())
        self._size -= removed
        return removed

    def close(self) -> None:
        """Give the disk back."""
        self._close()
        self._size = 0

    def _rows(self, number: int) -> NDArray[np.void]:
        file = self._files[number]
        file.seek(0)
        rows = np.frombuffer(file.read(), ROW)
        file.seek(0, 2)
        return rows

    def _file(self, number: int) -> IO[bytes]:
        if number not in self._files:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            # Closed by the finaliser: it lives as long as the spool does.
            self._files[number] = tempfile.TemporaryFile(  # noqa: SIM115
                buffering=0, dir=self._folder
            )
        return self._files[number]


def _close_all(files: dict[int, IO[bytes]]) -> None:
    for file in files.values():
        file.close()
    files.clear()
