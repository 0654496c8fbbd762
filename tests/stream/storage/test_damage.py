"""Whatever happens to a file of the store: it opens right, or it says that it is damaged."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stream.errors import StoreCorrupt, StoreError
from stream.storage.damage import FILE, ManifestGuard
from stream.storage.store import RocksStore
from stream.storage.store_identity import StoreIdentity

IDENTITY = StoreIdentity("app", "app.users.changelog", 0, 1)
USERS = 1500
DAMAGE = ("a bit", "a page", "its end", "all of it")


@dataclass
class Past:
    """A folder, and what was in it after each commit."""

    folder: Path
    states: dict[int, dict[bytes, bytes]] = field(default_factory=dict)

    def at(self, offset: int) -> tuple[dict[bytes, bytes], list[tuple[int, bytes]]]:
        state = self.states.get(offset, {})
        return state, sorted((due_of(value), key) for key, value in state.items())


def due_of(value: bytes) -> int:
    return int.from_bytes(value[:4], "little")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A killed worker's folder: tables, and a log with the last commits."""
    rng = random.Random(5)
    open_folder = tmp_path_factory.mktemp("store") / "open"
    past = Past(open_folder.with_name("killed"))
    state: dict[bytes, bytes] = {}
    with RocksStore.open(open_folder, IDENTITY) as store:
        for offset in range(9):
            puts, timers = [], []
            for number in rng.sample(range(USERS), 300):
                key = b"u%05d" % number
                value = rng.randrange(1, 10**6).to_bytes(4, "little") + rng.randbytes(400)
                old = state.get(key)
                puts.append((key, value))
                timers.append((key, due_of(old) if old else None, due_of(value)))
                state[key] = value
            store.apply(puts, timers, offset)
            past.states[offset] = dict(state)
            if offset in (1, 3, 5):
                store._db.flush()
        shutil.copytree(open_folder, past.folder)
    return past


def damage(file: Path, how: str, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    place = rng.randrange(max(len(data), 1))
    if how == "all of it":
        file.unlink()
        return
    if how == "its end":
        data = data[:place]
    elif how == "a page":
        data[place : place + 4096] = bytes(len(data[place : place + 4096]))
    elif data:
        data[place] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


@pytest.mark.full
@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("pattern", ["*.sst", "MANIFEST-*", "CURRENT", "*.log", "*.json"])
def test_a_damaged_file_is_noticed_or_does_no_harm(
    past: Past, tmp_path: Path, pattern: str, how: str
) -> None:
    rng = random.Random(f"{pattern} {how}")
    became: Counter[str] = Counter()
    cases = 4 if pattern == "*.sst" else 12  # RocksDB waits a second before it gives a table up
    for number in range(cases):
        folder = tmp_path / str(number)
        shutil.copytree(past.folder, folder)
        damage(rng.choice(sorted(folder.glob(pattern))), how, rng)
        try:
            with RocksStore.open(folder, IDENTITY) as store:
                state, timers = past.at(store.changelog_offset)
                assert store.due(2**40, 10**6) == timers
                assert dict(store.scan(b"u", 10**6)) == state
                assert store.get_many(list(state)) == list(state.values())
                assert store.first_due() == (timers[0][0] if timers else None)
                became["fine"] += 1
        except StoreCorrupt:
            became["damaged"] += 1
    if pattern in {"*.sst", "MANIFEST-*"}:
        assert became["damaged"] >= cases - 1, became


def test_a_manifest_cut_off_anywhere_is_noticed(past: Past, tmp_path: Path) -> None:
    (manifest,) = past.folder.glob("MANIFEST-*")
    size = manifest.stat().st_size
    assert ManifestGuard(past.folder).damage() == ""
    for length in range(0, size, 37):
        folder = tmp_path / str(length)
        folder.mkdir()
        for name in ("CURRENT", FILE):
            shutil.copy(past.folder / name, folder)
        (folder / manifest.name).write_bytes(manifest.read_bytes()[:length])
        assert "is not what it was" in ManifestGuard(folder).damage()


def test_a_later_manifest_without_its_mark_yet_is_accepted(past: Past, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(past.folder, folder)
    (manifest,) = folder.glob("MANIFEST-*")
    number = int(manifest.name.rpartition("-")[2])
    later = manifest.rename(folder / f"MANIFEST-{number + 1:06}")
    (folder / "CURRENT").write_text(f"{later.name}\n")
    assert ManifestGuard(folder).damage() == ""
    earlier = later.rename(folder / f"MANIFEST-{number - 1:06}")
    (folder / "CURRENT").write_text(f"{earlier.name}\n")
    assert ManifestGuard(folder).damage() == ""  # RocksDB has nothing to open there
    shutil.copy(earlier, folder / manifest.name)
    assert "is not what it was" in ManifestGuard(folder).damage()


def test_marks_follow_the_manifest_and_cost_nothing_in_between(tmp_path: Path) -> None:
    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        mark = tmp_path / "db" / FILE
        before = mark.stat().st_mtime_ns, mark.read_bytes()
        store.apply([(b"ua", b"1")], [], 1)
        assert (mark.stat().st_mtime_ns, mark.read_bytes()) == before
        store._db.flush()
        store.apply([(b"ua", b"2")], [], 2)
        assert mark.read_bytes() != before[1]
    assert ManifestGuard(tmp_path / "db").damage() == ""


def test_a_mark_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("MANIFEST-000001\n")
    (tmp_path / "MANIFEST-000001").write_bytes(b"x")
    (tmp_path / f"{FILE}.new").mkdir()
    with pytest.raises(StoreError, match="check free space and permissions"):
        ManifestGuard(tmp_path).note()


def test_a_mark_that_cannot_be_read_is_damage(past: Past, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(past.folder, folder)
    (folder / FILE).write_bytes(b"{")
    with pytest.raises(StoreCorrupt, match="is damaged"):
        RocksStore.open(folder, IDENTITY)
