"""Reading files that somebody else may have put there."""

import os
import stat
from pathlib import Path


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises:
        OSError: it is missing, no regular file (a pipe would never end), too long or unreadable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > limit:
            raise OSError(f"{path} has {found.st_size} bytes, at most {limit} are read")
        # Not `limit`: that much would be reserved first.
        return file.read(found.st_size)
