"""That the options take effect: bounded memory and files, and a way to load in bulk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from stream.errors import StoreCorrupt, StoreLocked
from stream.storage.store import RocksStore
from stream.storage.store_identity import StoreIdentity
from stream.storage.store_options import StoreMemory, open_database
from tests.patience import PATIENCE_S
from tests.stream.runs import each, run_of

pytestmark = pytest.mark.slow

MIB = 1 << 20
IDENTITY = StoreIdentity("app", "app.users.changelog", 0, 1)


def options_in_use(path: Path) -> dict[str, str]:
    """What RocksDB itself wrote down at the last opening."""
    newest = max(path.glob("OPTIONS-*"), key=lambda file: int(file.name.partition("-")[2]))
    lines = newest.read_text(encoding="utf-8").splitlines()
    return dict(line.strip().split("=", 1) for line in lines if "=" in line and "#" not in line)


def fill(database, megabytes: int) -> None:
    for number in range(megabytes * 64):
        database.put(b"u%08d" % number, os.urandom(16 << 10))


def test_a_folder_opens_with_the_options_of_now_not_with_those_it_was_made_with(tmp_path):
    memory = StoreMemory()
    open_database(tmp_path, memory.bulk_options()).close()
    bulk = options_in_use(tmp_path)
    assert bulk["compression"] == "kNoCompression"
    assert bulk["level0_stop_writes_trigger"] == str(1 << 30)
    open_database(tmp_path, memory.options()).close()
    serving = options_in_use(tmp_path)
    assert serving["compression"] == "kLZ4Compression"
    assert int(serving["level0_stop_writes_trigger"]) < 100
    assert serving["max_open_files"] == bulk["max_open_files"] == "128"
    assert serving["paranoid_checks"] == "true"


def test_stores_of_one_process_share_their_write_buffers(tmp_path):
    memory = StoreMemory(cache_bytes=4 * MIB, write_buffer_bytes=4 * MIB)
    databases = [open_database(tmp_path / str(n), memory.options()) for n in range(3)]
    for database in databases:
        fill(database, 6)

    def each_one(what: str) -> list[int]:
        return [database.property_int_value(f"rocksdb.{what}") or 0 for database in databases]

    deadline = time.monotonic() + PATIENCE_S
    while sum(each_one("cur-size-all-mem-tables")) > 2 * 4 * MIB:  # flushes take their time
        assert time.monotonic() < deadline, {
            what: each_one(what)
            for what in (
                "cur-size-active-mem-table",
                "cur-size-all-mem-tables",
                "num-immutable-mem-table",
                "mem-table-flush-pending",
                "num-running-flushes",
                "background-errors",
                "is-write-stopped",
            )
        }
        time.sleep(0.02)
        for database in databases:  # RocksDB looks at the shared bound when something is written
            database.put(b"again", b"")
    assert sum(each_one("total-sst-files-size")) > 8 * MIB, "what exceeds the bound is on disk"
    for database in databases:
        database.close()


def test_the_block_cache_stays_within_its_bound(tmp_path):
    memory = StoreMemory(cache_bytes=2 * MIB)
    database = open_database(tmp_path, memory.options())
    fill(database, 12)
    database.flush()
    for number in range(12 * 64):
        assert database.get(b"u%08d" % number) is not None
    used = memory.cache.get_usage()
    database.close()
    assert 0 < used <= 3 * MIB


def test_a_bulk_load_neither_merges_on_the_way_nor_loses_anything(tmp_path):
    memory = StoreMemory()
    with RocksStore.open(tmp_path, IDENTITY, memory) as store:
        store.begin_restore()
        assert options_in_use(tmp_path)["compression"] == "kNoCompression"
        for part in range(8):
            first = part * 1000
            numbers = range(first, first + 1500)
            records = [(b"u%06d" % n, b"%d" % part + bytes(9000)) for n in numbers]
            store.load(run_of(records), part)
        store.end_restore(each(lambda value: 5 if value[0] == ord("7") else None), 8)
        assert options_in_use(tmp_path)["compression"] == "kLZ4Compression"
        assert store.user_count() == 8500
        # A later part wins over an earlier one, whichever file it lies in.
        found = {key: value[:1] for key, value in store.scan(b"u", 9000)}
        assert found == {b"u%06d" % n: b"%d" % min(n // 1000, 7) for n in range(8500)}
        assert len(store.due(9, 9000)) == 1500


def test_a_restore_that_is_killed_goes_on_before_what_was_lost(tmp_path):
    """What is loaded may be lost, but never while its offset is kept."""
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from stream.storage.store import RocksStore
        from stream.storage.store_identity import StoreIdentity
        from tests.stream.runs import run_of
        identity = StoreIdentity("app", "app.users.changelog", 0, 1)
        store = RocksStore.open(Path(sys.argv[1]), identity)
        store.begin_restore()
        for part in range(12):
            records = [(b"u%06d" % (part * 1000 + n), bytes(9000)) for n in range(1000)]
            store.load(run_of(records), part)
        print("loaded", flush=True)
        time.sleep(600)
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    with child:
        assert child.stdout.readline() == "loaded\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    with RocksStore.open(tmp_path, IDENTITY) as store:
        assert store.restoring
        kept = store.changelog_offset
        assert -1 <= kept < 12
        keys = {key for key, _ in store.scan(b"u", 20_000)}
        assert {b"u%06d" % n for n in range((kept + 1) * 1000)} <= keys
        store.begin_restore()
        for part in range(kept + 1, 12):
            records = [(b"u%06d" % (part * 1000 + n), bytes(9000)) for n in range(1000)]
            store.load(run_of(records), part)
        store.end_restore(each(lambda _value: 1), 12)
        assert not store.restoring
        assert store.user_count() == len(store.due(1, 20_000)) == 12_000


def test_errors_of_opening_are_told_apart(tmp_path):
    memory = StoreMemory()
    database = open_database(tmp_path, memory.options())
    with pytest.raises(StoreLocked):
        open_database(tmp_path, memory.bulk_options())
    database.close()
    (tmp_path / "CURRENT").write_text("MANIFEST-999999\n", encoding="utf-8")
    with pytest.raises(StoreCorrupt, match=str(tmp_path)):
        open_database(tmp_path, memory.options())


def test_restores_of_one_process_share_the_memory_of_what_they_gather(tmp_path):
    memory = StoreMemory()
    alone = memory.run_bytes
    stores = [RocksStore.open(tmp_path / str(n), IDENTITY, memory) for n in range(4)]
    for store in stores:
        store.begin_restore()
    assert memory.run_bytes == alone // 4
    stores[0].end_restore(each(lambda _value: None), 0)
    stores[1].close()
    assert memory.run_bytes == alone // 2
    for store in stores:
        store.close()
        store.close()
    assert memory.run_bytes == alone
