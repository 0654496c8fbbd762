import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import rocksdict

from stream.errors import StoreCorrupt, StoreError, StoreForeign, StoreLocked
from stream.storage.store import RocksStore, wipe
from stream.storage.store_identity import StoreIdentity
from stream.storage.store_memory import MemoryStore
from stream.storage.store_options import StoreMemory
from tests.e2e.shop import wait_until
from tests.stream.runs import each, run_of

IDENTITY = StoreIdentity("app", "app.users.changelog", 0, 4)


@pytest.fixture(params=["rocks", "memory"])
def store(request, tmp_path):
    made = RocksStore.open(tmp_path / "db", IDENTITY) if request.param == "rocks" else MemoryStore()
    yield made
    made.close()


def test_a_commit_is_read_back(store):
    store.apply([(b"ua", b"1"), (b"ub", b"2"), (b"m", b"meta")], [], 7)

    assert store.get(b"ua") == b"1"
    assert store.get(b"uz") is None
    assert store.get_many([b"ub", b"uz", b"ua"]) == [b"2", None, b"1"]
    assert store.get_many([]) == []
    assert store.changelog_offset == 7


def test_a_tombstone_removes(store):
    store.apply([(b"ua", b"1")], [(b"ua", None, 50)], 1)
    store.apply([(b"ua", None)], [(b"ua", 50, None)], 2)

    assert store.get(b"ua") is None
    assert store.first_due() is None


def bytes_on_disk(path):
    """Of tables and write-ahead logs; a manifest names the first and last keys of tables."""
    files = [*path.glob("*.sst"), *path.glob("*.log")]
    return b"".join(file.read_bytes() for file in files)


@pytest.mark.slow
def test_erased_users_leave_the_files_when_they_are_purged(tmp_path):
    gone, stays = b"uzebra-7f3a9c", b"ulion-22bd61"
    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        for due in range(3):
            moves = [(key, due and 99 + due, 100 + due) for key in (gone, stays)]
            others = [(b"u%d" % n, os.urandom(99)) for n in range(2_000)]
            store.apply([(gone, b"first life"), (stays, b"x"), *others], moves, due)
            store._db.flush()
        store.apply([(gone, None)], [(gone, 102, None)], 3)
        assert store.get(gone) is None
        assert gone in bytes_on_disk(store.path)

        store.purge([gone])
        wait_until(lambda: store.purged)

        found = bytes_on_disk(store.path)
        assert gone[1:] not in found
        assert stays in found
        assert store.get(stays) == b"x"
        assert store.due(2**61, 9) == [(102, stays)]
        # What is written meanwhile and afterwards is kept; a second life too.
        store.apply([(gone, b"second life")], [], 4)
        store.purge([gone])
    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        assert store.get(gone) == b"second life"


def test_purge_of_nobody_and_without_files(store):
    store.purge([])
    store.apply([(b"ua", b"1")], [], 1)
    store.purge([b"ub"])
    assert store.get(b"ua") == b"1"


def test_timers_come_in_order_of_due_time_and_key(store):
    moves = [(b"ub", None, 300), (b"ua", None, 300), (b"uc", None, 256), (b"ud", None, 70_000)]
    store.apply([], moves, 0)

    assert store.first_due() == 256
    assert store.first_due(256) == 300
    assert store.first_due(70_000) is None
    assert store.due(300, 10) == [(256, b"uc"), (300, b"ua"), (300, b"ub")]
    assert store.due(300, 2) == [(256, b"uc"), (300, b"ua")]
    assert store.due(255, 10) == []
    assert store.due(2**62, 10)[-1] == (70_000, b"ud")


def test_moved_and_cleared_timers_leave_the_index(store):
    store.apply([], [(b"ua", None, 100), (b"ub", None, 200)], 0)
    assert store.first_due() == 100
    store.apply([], [(b"ua", 100, 500), (b"ub", 200, None)], 1)
    assert store.due(2**62, 10) == [(500, b"ua")]
    store.apply([], [(b"uc", None, 20)], 2)
    assert store.due(2**62, 10) == [(20, b"uc"), (500, b"ua")]
    store.apply([], [(b"uc", 20, 20), (b"ua", 500, None)], 3)
    assert store.due(2**62, 10) == [(20, b"uc")]
    store.apply([], [(b"uc", 20, None)], 4)
    assert store.first_due() is None
    store.apply([], [(b"ua", None, 1)], 5)
    assert store.first_due() == 1


def test_users_are_scanned_in_key_order_without_the_rest(store):
    store.apply([(b"u%04d" % i, b"x") for i in range(5000)], [(b"u0001", None, 5)], 0)
    store.apply([(b"m", b"meta")], [], 1)

    keys = [key for key, _ in store.scan(b"u", 10_000)]

    assert keys == [b"u%04d" % i for i in range(5000)]
    assert store.user_count() == 5000


def test_users_with_empty_and_long_ids_survive(store):
    store.apply([(b"u", b"empty"), (b"u" + b"\xff" * 256, b"long")], [(b"u", None, 3)], 0)

    assert store.due(10, 10) == [(3, b"u")]
    assert store.get(b"u") == b"empty"
    assert store.get(b"u" + b"\xff" * 256) == b"long"


def test_close_releases_the_lock_at_once(tmp_path):
    for round_number in range(3):
        store = RocksStore.open(tmp_path / "db", IDENTITY)
        assert store.changelog_offset == round_number - 1
        store.apply([(b"ua", b"%d" % round_number)], [(b"ua", None, 5)], round_number)
        store.scan(b"u", 1)
        store.due(10, 1)
        store.close()
        store.close()


def test_two_holders_of_one_folder_are_refused(tmp_path):
    with (
        RocksStore.open(tmp_path / "db", IDENTITY),
        pytest.raises(StoreLocked, match="data_dir of its own"),
    ):
        RocksStore.open(tmp_path / "db", IDENTITY)


@pytest.mark.slow
def test_a_folder_held_by_another_process_is_refused(tmp_path):
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from stream.storage.store import RocksStore
        from stream.storage.store_identity import StoreIdentity
        identity = StoreIdentity("app", "app.users.changelog", 0, 4)
        store = RocksStore.open(Path(sys.argv[1]), identity)
        store.apply([(b"ua", b"1")], [], 5)
        print("open", flush=True)
        sys.stdin.read()
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    with child:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked):
            RocksStore.open(tmp_path / "db", IDENTITY)
        child.send_signal(signal.SIGKILL)
        child.wait()

    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        assert store.get(b"ua") == b"1"
        assert store.changelog_offset == 5


@pytest.mark.parametrize(
    "other",
    [
        StoreIdentity("other", "app.users.changelog", 0, 4),
        StoreIdentity("app", "other.users.changelog", 0, 4),
        StoreIdentity("app", "app.users.changelog", 1, 4),
        StoreIdentity("app", "app.users.changelog", 0, 8),
        StoreIdentity("app", "app.users.changelog", 0, 4, layout=2),
    ],
)
def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path, other):
    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        store.apply([(b"ua", b"1")], [], 5)

    with pytest.raises(StoreForeign, match="use another data_dir"):
        RocksStore.open(tmp_path / "db", other)

    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        assert store.get(b"ua") == b"1"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["MANIFEST-*", "CURRENT", "*.sst"])
def test_damage_is_noticed_and_a_wiped_folder_starts_anew(tmp_path, what):
    path = tmp_path / "db"
    with RocksStore.open(path, IDENTITY) as store:
        store.load(run_of((b"u%06d" % i, os.urandom(100)) for i in range(20_000)), 9)
        store.end_restore(each(lambda _value: None), 9)
    for file in path.glob(what):
        size = file.stat().st_size
        file.write_bytes(b"\x00garbage" * (size // 8 + 1))

    def read_all():
        with RocksStore.open(path, IDENTITY) as store:
            store.scan(b"u", 30_000)

    with pytest.raises(StoreCorrupt, match="damaged"):
        read_all()

    wipe(path)
    with RocksStore.open(path, IDENTITY) as store:
        assert store.changelog_offset == -1
        assert store.get(b"u000001") is None


def test_a_file_in_the_place_of_the_folder_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "db").write_text("no folder")

    with pytest.raises(StoreError, match="check data_dir"):
        RocksStore.open(tmp_path / "db", IDENTITY)


def test_the_database_of_another_program_is_refused(tmp_path):
    database = rocksdict.Rdict(str(tmp_path / "db"), StoreMemory().options())
    database.put(b"x", b"y")
    database.close()

    with pytest.raises(StoreForeign, match="not intentstream's"):
        RocksStore.open(tmp_path / "db", IDENTITY)


@pytest.mark.slow
def test_a_restore_builds_the_timers_at_its_end(tmp_path):
    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        store.begin_restore()
        assert store.restoring
        store.load(run_of([(b"m", b"300"), (b"ua", b"100"), (b"ub", b"200")]), 3)
        store.load(run_of([(b"ua", b"150"), (b"ub", None), (b"uc", b"-")]), 6)
        assert store.first_due() is None
        store.end_restore(each(lambda value: None if value == b"-" else int(value)), 9)

        assert not store.restoring
        assert store.due(1000, 9) == [(150, b"ua")]
        assert store.changelog_offset == 9


def test_merging_newer_records_moves_their_timers(tmp_path):
    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        store.apply([(b"ua", b"100"), (b"ub", b"200")], [(b"ua", None, 100), (b"ub", None, 200)], 1)
        store.merge({b"ua": b"500", b"ub": None, b"uc": b"50", b"m": b"7"}, each(int), 8)

        assert store.due(1000, 9) == [(50, b"uc"), (500, b"ua")]
        assert store.get(b"m") == b"7"
        assert store.changelog_offset == 8
