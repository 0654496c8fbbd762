"""What is wrong with a RocksDB folder: its errors in our words, and what it does not notice itself.

RocksDB checks every record of its files except that none is missing at the end of the manifest: cut
off between two records it opens without the tables that those named, while the write-ahead log goes
on from where it was, and the hole in the middle is nobody's. So how far the manifest reached, and a
hash of it up to there, are kept beside it; it only ever grows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import rocksdict
import structlog
from xxhash import xxh3_64

from stream.errors import StoreCorrupt, StoreError, StoreLocked

FILE: Final = "intentstream-manifest.json"
_CURRENT: Final = "CURRENT"

log = structlog.get_logger(__name__)


class Mark(msgspec.Struct, frozen=True):
    """How far a manifest reached."""

    manifest: str
    """File name; a later one has a greater number."""
    size: int
    digest: str
    """xxh3-64 of the first `size` bytes, hex."""


class ManifestGuard:
    """Watches over the manifest of one database folder."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path = path
        self._manifest = path
        self._size = 0
        self._hash = xxh3_64()

    def damage(self) -> str:
        """Say what is wrong with the manifest, "" if nothing; before the database is opened."""
        try:
            mark = msgspec.json.decode((self._path / FILE).read_bytes(), type=Mark)
            current = (self._path / _CURRENT).read_text(encoding="utf-8").strip()
            if _number(current) > _number(mark.manifest):
                return ""  # killed after the database was opened and before the first mark
            content = (self._path / mark.manifest).read_bytes()[: mark.size]
        except FileNotFoundError:
            return ""  # a new folder, or damage that RocksDB finds itself
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            return str(error)
        if current != mark.manifest or xxh3_64(content).hexdigest() != mark.digest:
            return f"{current} is not what it was at {mark.size} bytes"
        return ""

    def note(self) -> None:
        """Leave a mark if the manifest has grown; cheap when it has not.

        Raises:
            StoreError: the mark cannot be written.
        """
        try:
            try:
                size = self._manifest.stat().st_size if self._size else 0
            except FileNotFoundError:
                size = 0  # RocksDB has begun another one
            if size == 0:
                self._begin()
            elif size == self._size:
                return
            self._grow()
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be used: {error}; check free space and permissions"
            ) from error

    def _begin(self) -> None:
        current = (self._path / _CURRENT).read_text(encoding="utf-8").strip()
        self._manifest, self._size, self._hash = self._path / current, 0, xxh3_64()

    def _grow(self) -> None:
        with self._manifest.open("rb") as file:
            file.seek(self._size)
            more = file.read()
        self._hash.update(more)
        self._size += len(more)
        mark = Mark(self._manifest.name, self._size, self._hash.hexdigest())
        new = self._path / f"{FILE}.new"
        new.write_bytes(msgspec.json.encode(mark))
        new.replace(self._path / FILE)


def _number(manifest: str) -> int:
    return int(manifest.rpartition("-")[2])


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what RocksDB raises inside as the error of ours that says what to do about it."""
    try:
        yield
    except (StoreError, rocksdict.DbClosedError):
        raise
    except Exception as error:  # rocksdict raises bare Exception with RocksDB's status as text
        text = str(error)
        if "LOCK" in text:
            raise StoreLocked(
                f"{path} is in use by another process or partition: stop it, or give each worker"
                " a data_dir of its own"
            ) from error
        if "Corruption" in text or "No such file" in text or "does not exist" in text:
            raise StoreCorrupt(f"{path} is damaged: {text}") from error
        raise StoreError(
            f"{path} cannot be used: {text}; check free space and permissions"
        ) from error


def release(database: rocksdict.Rdict, path: Path) -> None:
    """Close a database, which lets its folder go also when it fails.

    Closing writes to the tables what the log has already. What fails of that is no loss, and damage
    that comes to light is there at the next opening.
    """
    try:
        database.close()
    except rocksdict.DbClosedError:
        return
    except Exception as error:  # noqa: BLE001  # rocksdict raises nothing narrower
        log.warning("the local state did not close cleanly", path=str(path), error=str(error))
