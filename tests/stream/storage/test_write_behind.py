"""What waits is read like what is written, and a crash at any moment costs only time."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import StoreError
from stream.storage.store import RocksStore
from stream.storage.store_identity import StoreIdentity
from stream.storage.store_memory import MemoryStore
from stream.storage.store_options import StoreMemory
from stream.storage.write_behind import WriteBehind
from tests.stream.runs import each

IDENTITY = StoreIdentity("app", "app.users.changelog", 0, 4)
KEYS = [b"u%d" % n for n in range(12)]


def due_of(value):
    return int(value) or None


class Log:
    """A changelog that a store follows commit by commit; a record's value is its due time."""

    def __init__(self, store):
        self.store = store
        self.records = []
        self.state = {}

    def commit(self, changes):
        timers = []
        for key, value in changes.items():
            old = self.state.get(key)
            timers.append((key, old and due_of(old), value and due_of(value)))
            self.state[key] = value
        self.records += [*changes.items(), (b"m", b"%d" % len(self.records))]
        offset = len(self.records) - 1
        self.store.apply([*changes.items(), self.records[-1]], timers, offset)

    def users(self):
        return {key: value for key, value in self.state.items() if value is not None}

    def due(self):
        return sorted((due_of(v), k) for k, v in self.users().items() if due_of(v))


commits = st.lists(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.one_of(st.none(), st.integers(0, 99).map(lambda n: b"%d" % n)),
        min_size=1,
    ),
    max_size=40,
)


@pytest.mark.slow
@given(commits)
def test_what_waits_is_read_like_what_is_written(log):
    inner = MemoryStore()
    store = WriteBehind(inner, StoreMemory(waiting_records=20))
    told = Log(store)
    for changes in log:
        told.commit(changes)
        assert store.get_many(KEYS) == [told.state.get(key) for key in KEYS]
        assert store.get(b"m") == told.records[-1][1]
        assert store.get(KEYS[0]) == told.state.get(KEYS[0])
        assert store.changelog_offset == len(told.records) - 1
        assert store.due(2**40, 99) == told.due()

    assert dict(store.scan(b"u", 99)) == told.users()
    assert store.behind == 0
    assert inner.changelog_offset == store.changelog_offset


@pytest.mark.slow
def test_a_crash_at_any_moment_is_healed_by_the_changelog(tmp_path_factory):
    """The folder is copied while it is open, as a kill leaves it, and caught up from its offset."""
    folder = tmp_path_factory.mktemp("behind")

    @settings(max_examples=20)
    @given(commits)
    def crash(log):
        live, left = folder / "live", folder / "left"
        for path in (live, left):
            shutil.rmtree(path, ignore_errors=True)
        memory = StoreMemory(waiting_records=16)
        store = WriteBehind(RocksStore.open(live, IDENTITY, memory), memory)
        told = Log(store)
        for changes in log:
            told.commit(changes)
        shutil.copytree(live, left)
        store.close()
        with RocksStore.open(left, IDENTITY) as found:
            at = found.changelog_offset + 1
            found.merge(dict(told.records[at:]), each(due_of), len(told.records) - 1)
            assert dict(found.scan(b"u", 99)) == told.users()
            assert set(found.due(2**40, 99)) >= set(told.due())
        with RocksStore.open(live, IDENTITY) as found:
            assert dict(found.scan(b"u", 99)) == told.users()
            assert found.due(2**40, 99) == told.due()
            assert found.changelog_offset == len(told.records) - 1

    crash()


def test_the_database_lags_by_a_bounded_number_of_changelog_records():
    inner, memory = MemoryStore(), StoreMemory(waiting_records=4000)
    store = WriteBehind(inner, memory)
    beside = WriteBehind(MemoryStore(), memory)
    told, written = Log(store), 0
    puts = MemoryStore.apply

    def counted(changelog, timers, offset):
        nonlocal written
        written += len(changelog)
        puts(inner, changelog, timers, offset)

    inner.apply = counted
    for number in range(400):
        told.commit({b"u%d" % (n % 300): b"%d" % number for n in range(number, number + 50)})
        lag = store.changelog_offset - inner.changelog_offset
        assert lag <= memory.waiting_records // memory.stores + 200
    assert written < len(told.records) / 4
    beside.close()
    assert memory.stores == 1


class Full(MemoryStore):
    """A database on a full disk."""

    closed = False

    def apply(self, changelog, timers, changelog_offset):
        raise StoreError("No space left on device")

    def close(self):
        self.closed = True


def test_a_full_disk_is_noticed_at_the_next_commit():
    inner, memory = Full(), StoreMemory()
    store = WriteBehind(inner, memory)

    with pytest.raises(StoreError, match="No space left"):
        store.apply([(b"ua", b"1"), (b"m", b"1")], [], 1)
    store.close()

    assert inner.closed
    assert memory.stores == 0


def test_closing_on_a_full_disk_lets_go_all_the_same():
    inner, memory = Full(), StoreMemory()
    store = WriteBehind(inner, memory)
    store.close()

    assert inner.closed
    assert memory.stores == 0


@pytest.mark.parametrize("lag", [2, 10**6])
def test_purge_writes_what_waits_of_erased_users(tmp_path, lag):
    memory = StoreMemory(waiting_records=lag)
    inner = RocksStore.open(tmp_path / "db", IDENTITY, memory)
    store = WriteBehind(inner, memory)
    it = Log(store)
    it.commit(dict.fromkeys(KEYS, b"7"))
    store.settle()
    it.commit({KEYS[0]: None, KEYS[1]: b"8"})

    store.purge([KEYS[0], b"unobody"])

    assert inner.get(KEYS[0]) is None
    assert store.get(KEYS[1]) == b"8"
    it.commit({KEYS[0]: b"9"})
    store.close()
    with RocksStore.open(tmp_path / "db", IDENTITY) as again:
        assert dict(again.scan(b"u", 99)) == it.users()
        assert again.due(2**61, 99) == it.due()
