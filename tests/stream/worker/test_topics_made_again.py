"""Topics that are deleted and created again, with more records than before."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from stream.kafka.topic_ids import topic_ids
from stream.pipeline.outbox import decode_meta
from stream.storage.store import PARTITION_KEY, RocksStore
from stream.storage.store_identity import StoreIdentity
from tests.conftest import Kafka
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, produce
from tests.stream.worker_tools import Bench

pytestmark = pytest.mark.kafka


@pytest.fixture
async def bench(kafka: Kafka, tmp_path: Path) -> AsyncIterator[Bench]:
    made = await Bench(kafka.bootstrap_servers, tmp_path, partitions=1).create()
    yield made
    made.close()


async def make_again(bench: Bench, topic: str, records: int, **configs: str) -> None:
    """Delete and create; the new topic is longer than the old one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()
    await create_topics(bench.bootstrap, topic, **configs)
    await produce(bench.bootstrap, topic, [(b"unew", b"1")] * records)


async def ids(bench: Bench, *topics: str) -> dict[str, str]:
    return await topic_ids({"bootstrap_servers": bench.bootstrap}, topics)


@pytest.mark.full
async def test_a_source_made_again_while_stopped_is_not_skipped_into(bench: Bench) -> None:
    await bench.produce(100)
    worker = bench.start()
    await bench.all_committed(worker)
    assert bench.end(worker) == 0
    before = await ids(bench, bench.source)
    await make_again(bench, bench.source, 400)
    after = await ids(bench, bench.source)

    worker = bench.start()
    assert worker.wait(PATIENCE_S) == 1
    said = bench.log(worker)
    assert f"TopicReplaced: {bench.source}-0: the state was built up to offset 100" in said
    assert before[bench.source] in said
    assert after[bench.source] in said
    assert (await bench.outputs()) == bench.expected


@pytest.mark.full
async def test_a_source_made_again_under_a_running_worker_ends_it(bench: Bench) -> None:
    await bench.produce(100)
    worker = bench.start()
    await bench.all_committed(worker)
    await make_again(bench, bench.source, 1200)

    assert worker.wait(PATIENCE_S) == 1
    worker = bench.start()
    assert worker.wait(PATIENCE_S) == 1
    assert "deleted and created again" in bench.log(worker)


@pytest.mark.full
async def test_a_changelog_made_again_does_not_wipe_the_local_state(bench: Bench) -> None:
    await bench.produce(100)
    worker = bench.start()
    await bench.all_committed(worker)
    assert bench.end(worker) == 0
    await make_again(bench, bench.changelog, 1000, cleanup_policy="compact")

    worker = bench.start()
    assert worker.wait(PATIENCE_S) == 1
    said = bench.log(worker)
    assert f"of a changelog {bench.changelog} with id" in said
    assert "both are left as they are" in said
    path = bench.folder / "data" / "state" / bench.app / "0"
    store = RocksStore.open(path, StoreIdentity(bench.app, bench.changelog, 0, 1))
    try:
        assert decode_meta(store.get(PARTITION_KEY)).source_offset == 100
    finally:
        store.close()


@pytest.mark.full
async def test_a_state_without_ids_takes_the_present_ones(bench: Bench, kafka: Kafka) -> None:
    """One of an earlier release; they are noted at once, not with the next event."""
    await produce(kafka.bootstrap_servers, bench.changelog, [(b"m", b'{"source_offset":100}')])
    await produce(kafka.bootstrap_servers, bench.source, [(b"a", b"event")] * 100)
    worker = bench.start()
    await bench.group_at(100, worker)
    assert bench.end(worker) == 0
    await make_again(bench, bench.source, 400)

    worker = bench.start()
    assert worker.wait(PATIENCE_S) == 1
    assert "deleted and created again" in bench.log(worker)
