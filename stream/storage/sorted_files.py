"""Many records at once into a database, by a table file that is written beside it.

A write batch is copied, sorted and written out by RocksDB, at several times the price of writing
the file in order. What a file holds is newer than all that the database has; RocksDB syncs the file
when it takes it in (`ExternalSstFileIngestionJob::Prepare`), and the manifest that names it, before
`ingest` returns.
"""

from pathlib import Path
from typing import Final

import rocksdict

from stream.kernels.blocks import Run
from stream.storage.table_files import write_table

_FILE: Final = "restored.sst"
"""Becomes one of the database's own."""


def ingest(database: rocksdict.Rdict, folder: Path, run: Run) -> None:
    """Take in a run.

    Raises:
        ValueError: its keys are not in strictly ascending order.
        OSError: the file cannot be written.
        Exception: whatever rocksdict raises, with RocksDB's status as its text.
    """
    if not len(run.key_begins):
        return  # no file is without a key
    path = folder / _FILE
    # Left behind by a kill it may be another name of a file that is the database's already.
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        write_table(file, run)
    taking = rocksdict.IngestExternalFileOptions()
    taking.set_move_files(True)
    database.ingest_external_file([str(path)], taking)
