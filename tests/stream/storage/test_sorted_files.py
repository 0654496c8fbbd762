"""Runs taken into a database, also beside what a kill left behind."""

from __future__ import annotations

import os

import pytest

from stream.kernels.blocks import Run
from stream.storage.sorted_files import ingest
from stream.storage.store_options import StoreMemory, open_database
from tests.stream.kernels.test_blocks import run_of as unsorted_run
from tests.stream.runs import run_of

LEFT = "restored.sst"


@pytest.fixture
def database(tmp_path):
    with open_database(tmp_path, StoreMemory().bulk_options()) as made:
        yield made


def test_a_later_run_wins_and_a_tombstone_removes(tmp_path, database):
    database.put(b"ua", b"0")
    ingest(database, tmp_path, run_of([(b"ua", b"1"), (b"ub", b"1"), (b"uc", b"1")]))
    ingest(database, tmp_path, run_of([(b"ub", None), (b"uc", b"2")]))
    assert dict(database.items()) == {b"ua": b"1", b"uc": b"2"}
    assert not (tmp_path / LEFT).exists()


def test_an_empty_run_is_nothing(tmp_path, database):
    none: Run = run_of([])
    ingest(database, tmp_path, none)
    assert dict(database.items()) == {}


def test_half_a_file_that_a_kill_left_is_in_nobodys_way(tmp_path, database):
    (tmp_path / LEFT).write_bytes(b"half a file")
    ingest(database, tmp_path, run_of([(b"ua", b"1")]))
    assert dict(database.items()) == {b"ua": b"1"}


def test_a_second_name_of_a_table_that_a_kill_left_does_it_no_harm(tmp_path):
    """RocksDB links the file to its new name, and removes the old one when all is noted."""
    with open_database(tmp_path, StoreMemory().bulk_options()) as database:
        ingest(database, tmp_path, run_of([(b"ua", b"1")]))
        (table,) = tmp_path.glob("0*.sst")
    os.link(table, tmp_path / LEFT)
    with open_database(tmp_path, StoreMemory().bulk_options()) as database:
        ingest(database, tmp_path, run_of([(b"ub", b"2")]))
        assert dict(database.items()) == {b"ua": b"1", b"ub": b"2"}


def test_a_run_that_is_not_sorted_is_refused(tmp_path, database):
    with pytest.raises(ValueError, match="ascending"):
        ingest(database, tmp_path, unsorted_run([(b"ub", b"1"), (b"ua", b"1")]))
    assert dict(database.items()) == {}
