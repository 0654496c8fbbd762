"""Hashes as the clients have them, and which client it was by where its records lie."""

from __future__ import annotations

import random

import pytest

from stream.kafka.partitioners import (
    CRC32,
    FNV1A,
    FNV1A_MASKED,
    NO_HASH,
    PARTITIONERS,
    REMEDIES,
    UNSIGNED_MURMUR2,
    Sample,
    fnv1a,
    partition_by,
    shares,
)
from stream.pipeline.ingest import partition_of

N = 12


def wrong(partitioner: str | None, keys: int, seed: int = 0, partitions: int = N) -> list[Sample]:
    """Records of a client that lie in wrong partitions; of None, one that ignores the key."""
    rng = random.Random(seed)
    found: list[Sample] = []
    while len(found) < keys:
        key = f"user-{rng.randrange(10**9)}".encode()
        where = (
            rng.randrange(partitions)
            if partitioner is None
            else partition_by(partitioner, key, partitions)
        )
        if where != partition_of(key, partitions):
            found.append(Sample(key, where, partitions))
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"b", 0xE70C2DE5), (b"foobar", 0xBF9CF968)],
)
def test_fnv1a_is_that_of_its_authors(key: bytes, value: int) -> None:
    """http://www.isthe.com/chongo/src/fnv/test_fnv.c"""
    assert fnv1a(key) == value


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_kafka(key: bytes, murmur2: int) -> None:
    """The values of Kafka's own UtilsTest."""
    assert partition_by(UNSIGNED_MURMUR2, key, N) == (murmur2 % (1 << 32)) % N
    assert partition_of(key, N) == (murmur2 & 0x7FFFFFFF) % N


def test_signs_are_treated_as_by_each_client() -> None:
    # FNV-1a of "a" is 0xe40c292c, as a signed number -468965076.
    assert partition_by(FNV1A, b"a", 7) == 468965076 % 7
    assert partition_by(FNV1A_MASKED, b"a", 7) == (0xE40C292C & 0x7FFFFFFF) % 7
    assert partition_by(CRC32, b"123456789", 7) == 0xCBF43926 % 7
    # Where the number of partitions is a power of two the sign makes no difference.
    assert partition_by(UNSIGNED_MURMUR2, b"foobar", 8) == partition_of(b"foobar", 8)


@pytest.mark.parametrize("name", PARTITIONERS)
@pytest.mark.parametrize("keys", [24, 300])
@pytest.mark.parametrize("partitions", [5, 12, 100])
def test_one_client_is_told(name: str, keys: int, partitions: int) -> None:
    found, *others = shares(wrong(name, keys, partitions=partitions))
    assert found.partitioner == name
    assert found.share > 0.95
    assert (found.matches, found.keys) == (keys, keys)
    assert found.chance < 1e-3
    assert found.remedy == REMEDIES[name]
    assert sum(each.share for each in others) < 0.05


@pytest.mark.slow
def test_two_clients_and_one_without_hash_are_told_apart() -> None:
    samples = wrong(CRC32, 300, 1) + wrong(FNV1A, 150, 2) + wrong(None, 150, 3)
    found = {each.partitioner: each.share for each in shares(samples)}
    assert set(found) == {CRC32, FNV1A, NO_HASH}
    assert found[CRC32] == pytest.approx(0.5, abs=0.05)
    assert found[FNV1A] == pytest.approx(0.25, abs=0.05)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(20))
def test_client_that_ignores_the_key_is_not_taken_for_another(seed: int) -> None:
    (found,) = shares(wrong(None, 40, seed))
    assert (found.partitioner, found.share) == (NO_HASH, 1.0)
    assert "ignores the key" in found.remedy


@pytest.mark.slow
def test_few_keys_and_two_partitions_say_nothing() -> None:
    assert [each.partitioner for each in shares(wrong(CRC32, 2))] == [NO_HASH]
    assert [each.partitioner for each in shares(wrong(CRC32, 500, partitions=2))] == [NO_HASH]
    assert shares([]) == []


def test_one_key_often_is_one_key() -> None:
    (found,) = shares(wrong(CRC32, 1) * 1_000)
    assert found.partitioner == NO_HASH


def test_share_is_of_records_not_of_keys() -> None:
    often = wrong(CRC32, 20, 1) * 10
    found = {each.partitioner: each.share for each in shares(often + wrong(FNV1A, 20, 2))}
    assert found[CRC32] == pytest.approx(200 / 220, abs=0.02)
