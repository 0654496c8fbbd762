"""Many records at once into a database, by a table file that is written beside it.

A write batch is copied, sorted and written out by RocksDB, at several times the price of writing
the file in order. What a file holds is newer than all that the database has; the file is synced, as
is the manifest that names it, before `ingest` returns.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, Final

import rocksdict

_FILE: Final = "restored.sst"
"""Becomes one of the database's own; left behind by a kill it is written anew."""


def ingest(
    database: rocksdict.Rdict,
    folder: Path,
    options: rocksdict.Options,
    items: Iterable[tuple[bytes, bytes | None]],
) -> None:
    """Take in items with ascending keys; a value of None is a tombstone.

    Raises:
        Exception: whatever rocksdict raises, with RocksDB's status as its text.
    """
    items = iter(items)
    first = next(items, None)
    if first is None:
        return  # no file is without a key
    path = str(folder / _FILE)
    writer: Any = rocksdict.SstFileWriter(options)
    writer.open(path)
    for key, value in chain((first,), items):
        if value is None:
            del writer[key]
        else:
            writer[key] = value
    writer.finish()
    taking = rocksdict.IngestExternalFileOptions()
    taking.set_move_files(True)
    database.ingest_external_file([path], taking)
