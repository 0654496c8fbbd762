"""Who a worker is to the consumer group: an id that survives its restart.

A member that is killed keeps its partitions in the broker's eyes until its session times out, so a
restarted worker would wait. With the same group instance id it takes its old place at once. The id
lies in the data folder, under a lock: several workers that share a folder get different ones.
"""

import fcntl
import os
import uuid
from pathlib import Path
from typing import Final, Self

from stream.errors import StoreError

_MOST: Final = 256


class WorkerIdentity:
    """An id of the data folder, held until `close`."""

    def __init__(self, descriptor: int, name: str) -> None:
        """Take over a locked file; use `acquire`."""
        self._descriptor: int | None = descriptor
        self.name = name

    @classmethod
    def acquire(cls, folder: Path) -> Self:
        """Take the first free id of the folder, or make one.

        Raises:
            StoreError: the folder cannot be written, or too many workers share it.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(_MOST):
                path = folder / f"worker-{number}.id"
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    continue
                return cls(descriptor, _read_or_make(descriptor))
        except OSError as error:
            raise StoreError(
                f"the data folder {folder} cannot be used: {error}; check data_dir, free space and"
                " permissions"
            ) from error
        raise StoreError(f"more than {_MOST} workers use {folder}: give them other data_dirs")

    def close(self) -> None:
        """Let the id go; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read_or_make(descriptor: int) -> str:
    name = os.read(descriptor, 64).decode("ascii", "replace").strip()
    if not name.isalnum():
        name = uuid.uuid4().hex
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, name.encode(), 0)
        os.fsync(descriptor)
    return name
