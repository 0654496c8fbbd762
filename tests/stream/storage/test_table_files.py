"""Table files that RocksDB reads as it reads those of its own writer, and whose damage it finds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import rocksdict

from stream.kernels.blocks import Run
from stream.storage.store_options import StoreMemory, open_database
from stream.storage.table_files import write_table
from tests.stream.kernels.test_blocks import read_block, run_of, varint

FOOTER = 53
OURS_ALONE = {b"rocksdb.creating.session.identity"}
THEIRS_ALONE = {
    b"rocksdb.compression_options",
    b"rocksdb.creating.host.identity",
    b"rocksdb.filter.policy",
}
DIFFER = OURS_ALONE | {
    # Blocks end elsewhere, keys of the index are not shortened, and there is no filter.
    b"rocksdb.data.size",
    b"rocksdb.filter.size",
    b"rocksdb.index.size",
    b"rocksdb.num.data.blocks",
    b"rocksdb.num.filter_entries",
    b"rocksdb.tail.start.offset",
}


def some(seed: int, count: int, largest: int) -> list[tuple[bytes, bytes | None]]:
    chance = random.Random(seed)
    keys = {b"u" + chance.randbytes(chance.choice((1, 2, 16, 256))) for _ in range(count)}
    sizes = (0, 1, 577, largest)
    return [
        (key, None if chance.random() < 0.1 else chance.randbytes(chance.choice(sizes)))
        for key in sorted(keys)
    ]


def write(path: Path, run: Run) -> None:
    with path.open("wb") as file:
        write_table(file, run)


def taken_in(folder: Path, path: Path) -> rocksdict.Rdict:
    database = open_database(folder, StoreMemory().bulk_options())
    database.ingest_external_file([str(path)])
    return database


def entries(block: bytes) -> dict[bytes, bytes]:
    """Of a block that is not of data."""
    restarts = int.from_bytes(block[-4:], "little")
    at, end, found = 0, len(block) - 4 - 4 * restarts, {}
    key = b""
    while at < end:
        shared, at = varint(block, at)
        more, at = varint(block, at)
        size, at = varint(block, at)
        key = key[:shared] + block[at : at + more]
        found[key] = block[at + more : at + more + size]
        at += more + size
    return found


def properties(path: Path) -> dict[bytes, bytes]:
    data = path.read_bytes()
    footer = data[-FOOTER:]
    end = len(data) - FOOTER - 5
    metaindex = entries(data[end - int.from_bytes(footer[13:17], "little") : end])
    begin, at = varint(metaindex[b"rocksdb.properties"], 0)
    size, _ = varint(metaindex[b"rocksdb.properties"], at)
    return entries(data[begin : begin + size])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "largest"), [(1, 5), (40, 5 << 20), (3000, 700), (20_000, 2), (400, 50_000)]
)
def test_rocksdb_reads_what_was_written(tmp_path, count, largest):
    pairs = some(count, count, largest)
    write(tmp_path / "t.sst", run_of(pairs))
    there = {key: value for key, value in pairs if value is not None}
    with taken_in(tmp_path / "db", tmp_path / "t.sst") as database:
        for _ in range(2):
            assert dict(database.items()) == there
            assert list(database.keys(backwards=True)) == sorted(there, reverse=True)
            for key, value in random.Random(1).sample(pairs, min(len(pairs), 500)):
                assert database.get(key) == value
                assert database.get(key + b"\0") == there.get(key + b"\0")
            # Merging counts what it reads and compares that with the properties.
            database.compact_range(None, None)


def test_tombstones_hide_what_is_older(tmp_path):
    write(tmp_path / "old.sst", run_of([(b"ua", b"1"), (b"ub", b"2"), (b"uc", b"3")]))
    write(tmp_path / "new.sst", run_of([(b"ub", None), (b"uc", b"4")]))
    with taken_in(tmp_path / "db", tmp_path / "old.sst") as database:
        database.ingest_external_file([str(tmp_path / "new.sst")])
        assert dict(database.items()) == {b"ua": b"1", b"uc": b"4"}
        assert database.get(b"ub") is None


def test_the_properties_are_those_of_rocksdbs_own_writer(tmp_path):
    pairs = some(5, 3000, 700)
    write(tmp_path / "ours.sst", run_of(pairs))
    writer = rocksdict.SstFileWriter(StoreMemory().bulk_options())
    writer.open(str(tmp_path / "theirs.sst"))
    for key, value in pairs:
        if value is None:
            del writer[key]
        else:
            writer[key] = value
    writer.finish()
    ours, theirs = properties(tmp_path / "ours.sst"), properties(tmp_path / "theirs.sst")
    assert theirs.keys() - ours.keys() == THEIRS_ALONE
    assert ours.keys() <= theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == DIFFER


def test_each_file_has_an_identity_of_its_own(tmp_path):
    run = run_of([(b"ua", b"1")])
    names = [tmp_path / f"{n}.sst" for n in range(3)]
    for name in names:
        write(name, run)
    found = {properties(name)[b"rocksdb.creating.session.identity"] for name in names}
    assert len(found) == 3


@pytest.mark.parametrize("where", [0.0, 0.3, 0.97, 1.0])
def test_a_changed_byte_is_found(tmp_path, where):
    """In the first block, in one of the middle, in the index, in the footer."""
    write(tmp_path / "t.sst", run_of([(b"u%06d" % n, b"v" * 30) for n in range(9000)]))
    data = bytearray((tmp_path / "t.sst").read_bytes())
    data[min(int(where * len(data)), len(data) - 30)] ^= 4
    (tmp_path / "t.sst").write_bytes(data)

    def use() -> None:
        with taken_in(tmp_path / "db", tmp_path / "t.sst") as database:
            for n in range(9000):
                database.get(b"u%06d" % n)

    with pytest.raises(Exception, match="Corruption"):
        use()


def test_blocks_that_changed_places_are_found(tmp_path):
    """Each block is whole, so only where its checksum says that it lies tells."""
    write(tmp_path / "t.sst", run_of([(b"u%06d" % n, b"%010d" % n) for n in range(9000)]))
    data = (tmp_path / "t.sst").read_bytes()
    size = next(n for n in range(16_000, 20_000) if data[n : n + 3] == b"\0\x0f\x0a" and n > 16_384)
    assert read_block(data[: size - 5])
    (tmp_path / "t.sst").write_bytes(data[size : 2 * size] + data[:size] + data[2 * size :])
    with pytest.raises(Exception, match="Corruption"):
        taken_in(tmp_path / "db", tmp_path / "t.sst")


def test_keys_out_of_order_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="ascending"):
        write(tmp_path / "t.sst", run_of([(b"ub", b"1"), (b"ua", b"2")]))


def test_a_run_of_a_part_of_its_bytes(tmp_path):
    whole = run_of([(b"u%06d" % n, b"%d" % n) for n in range(100)])
    write(tmp_path / "t.sst", Run(whole.data, *(column[40:60] for column in whole[1:])))
    with taken_in(tmp_path / "db", tmp_path / "t.sst") as database:
        assert dict(database.items()) == {b"u%06d" % n: b"%d" % n for n in range(40, 60)}
