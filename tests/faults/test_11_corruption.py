"""Damaged files: the local state is wiped and restored; a damaged changelog is never believed."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from schemas.outputs import Prediction
from tests.conftest import Kafka
from tests.e2e.world import Worker, World
from tests.faults.ledger import FaultRow, Scale
from tests.faults.test_02_local_state import SHOP, Shop, make_world
from tests.patience import PATIENCE_S
from tests.stream.storage.test_damage import DAMAGE, damage

pytestmark = pytest.mark.kafka
ROW, NAME = 11, "corrupt SST, MANIFEST or changelog record"

CASES = list(product(("*.sst", "MANIFEST-*", "CURRENT"), DAMAGE))
SHORT = [("*.sst", "a page"), ("MANIFEST-*", "its end"), ("*.sst", "all of it")]
_BATCH = struct.Struct(">qiiBIh")  # base offset, length, leader epoch, magic, CRC, attributes
_HEADER = 61
_CONTROL = 0x20


def damage_all(shop: Shop, pattern: str, how: str, rng: random.Random) -> None:
    """Damage every such file of both partitions."""
    files = sorted((shop.state / shop.world.settings.app_id).glob(f"*/{pattern}"))
    assert len(files) >= 2
    for file in files:
        damage(file, how, rng)


def test_a_damaged_store_is_wiped_and_restored(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    cases = scale(SHORT, CASES * 2)
    shop = Shop(make_world(world), rng, parts=1 + len(cases))
    shop.work(killed=False)
    with fault_row.attempt(times=len(cases)) as attempt:
        for pattern, how in cases:
            damage_all(shop, pattern, how, rng)
            # Only what is closed has all of it in tables.
            attempt.recovered_in(shop.work(killed=False))
            assert "is damaged" in shop.world.workers[-1].said(), (pattern, how)
        shop.judge(attempt)


def test_tables_damaged_under_a_running_worker(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    rounds = scale(1, 4)
    shop = Shop(make_world(world), rng, parts=1 + 3 * rounds)
    with fault_row.attempt(times=rounds) as attempt:
        for _ in range(rounds):
            shop.work(killed=False)
            worker = shop.world.start_worker()
            shop.send()
            shop.arrived()
            damage_all(shop, "*.sst", "a page", rng)
            shop.send()
            with attempt.recovering():
                shop.arrived()
            worker.stop()
        shop.work(killed=False)  # what was not read before is found now
        shop.judge(attempt)


def batches(segment: bytes) -> list[tuple[int, int]]:
    """Start and end of each record batch with data of a log segment."""
    found, at = [], 0
    while at + _HEADER < len(segment):
        _, length, _, _, _, attributes = _BATCH.unpack_from(segment, at)
        end = at + 12 + length
        if not attributes & _CONTROL:
            found.append((at, end))
        at = end
    return found


def flip(segment: Path, rng: random.Random) -> Callable[[], None]:
    """Flip a bit of a record on the broker's disk; return what turns it back."""
    start, end = rng.choice(batches(segment.read_bytes()))
    place = rng.randrange(start + _HEADER, end)

    def turn() -> None:
        with segment.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 0x10]))

    turn()
    return turn


def refused(worker: Worker) -> str:
    """Wait for a worker to end with an error; return its one line."""
    assert worker.process.wait(PATIENCE_S) == 1, worker.said()[-3000:]
    (said,) = [line for line in worker.said().splitlines() if line.startswith("intentstream:")]
    return said


def test_a_changelog_damaged_on_the_brokers_disk_is_not_believed(
    world: Callable[..., World], kafka: Kafka, fault_row: FaultRow, rng: random.Random
) -> None:
    shop = Shop(make_world(world), rng, parts=2)
    shop.work(killed=False)
    data = kafka.broker._folder.data(1)
    changelog = shop.world.settings.changelog
    with fault_row.attempt() as attempt:
        (segment,) = (data / f"{changelog}-1").glob("*.log")
        mend = flip(segment, rng)
        shop.wipe()
        said = refused(shop.world.start_worker())
        assert f"{changelog}-1" in said
        assert "damaged" in said
        mend()
        attempt.recovered_in(shop.work(killed=False))
        shop.judge(attempt)


def test_a_damaged_replica_loses_the_lead_and_the_state_is_restored_from_another(
    world: Callable[..., World],
    request: pytest.FixtureRequest,
    fault_row: FaultRow,
    scale: Scale,
    rng: random.Random,
) -> None:
    if not scale.full:
        pytest.skip("at full strength only")
    cluster: Kafka = request.getfixturevalue("kafka_cluster")
    shop = Shop(world(on=cluster, **SHOP, topics={"replication": 3}), rng, parts=2)
    shop.work(killed=False)
    changelog = shop.world.settings.changelog
    leader = asyncio.run(leader_of(cluster.bootstrap_servers, changelog, 1))
    folder = cluster.broker._folder.data(leader) / f"{changelog}-1"
    with fault_row.attempt() as attempt:
        mend = flip(next(folder.glob("*.log")), rng)
        shop.wipe()
        assert "damaged" in refused(shop.world.start_worker())
        cluster.broker.kill(leader)
        try:
            attempt.recovered_in(shop.work(killed=False))
        finally:
            mend()
            cluster.broker.restart(leader)
        shop.judge(attempt)


async def leader_of(bootstrap: str, topic: str, partition: int) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return next(p["leader"] for p in described["partitions"] if p["partition"] == partition)


def test_a_record_that_no_worker_wrote_is_not_believed(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    """Its checksum in Kafka is right; the seal of the record is not."""
    shop = Shop(make_world(world), rng, parts=2)
    shop.work(killed=False)
    records = shop.world.raw(shop.world.settings.changelog)
    users = [r for r in records if r.key.startswith(b"u") and r.value]
    victim = users[-1]
    forged = bytearray(victim.value)
    forged[rng.randrange(6, len(forged))] ^= 1

    async def forge() -> None:
        async with AIOKafkaProducer(bootstrap_servers=shop.world.bootstrap) as producer:
            await producer.send_and_wait(
                victim.topic, bytes(forged), victim.key, partition=victim.partition
            )

    with fault_row.attempt():
        asyncio.run(forge())
        topics = shop.world.settings.topics
        known = {(event.partition, event.offset) for event in shop.world.raw(topics.events)}
        shop.send()
        said = refused(shop.world.start_worker())
        assert "its seal does not fit" in said
        assert victim.key.decode() in said
        told = shop.world.read(topics.propensity, Prediction)
        sources = {(p.source.partition, p.source.offset, p.user_id) for p in told}
        user = victim.key[1:].decode()
        assert all((part, offset) in known for part, offset, whose in sources if whose == user)
