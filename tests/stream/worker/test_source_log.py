"""What happens to the source's log under a worker: transactions, retention, moved offsets."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.conftest import Kafka
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import unique
from tests.stream.worker_tools import Bench

pytestmark = pytest.mark.kafka


@pytest.fixture
async def bench(kafka: Kafka, tmp_path: Path) -> AsyncIterator[Bench]:
    made = await Bench(kafka.bootstrap_servers, tmp_path, partitions=1).create()
    yield made
    made.close()


async def delete_before(bench: Bench, offset: int) -> None:
    """What retention does, at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(bench.source, 0): RecordsToDelete(offset)})
    finally:
        await admin.close()


async def said(bench: Bench, worker, words: str) -> str:
    """The first line of the worker's log that has these words."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for line in bench.log(worker).splitlines():
                if words in line:
                    return line
            assert worker.poll() is None, bench.log(worker)
            await asyncio.sleep(0.1)


@pytest.mark.full
async def test_unread_events_deleted_by_retention_are_counted(bench: Bench) -> None:
    """Under a running worker, and while it is stopped."""
    await bench.produce(100)
    worker = bench.start()
    await bench.all_committed(worker)
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1)  # its last fetch is answered
    await bench.produce(100)
    await delete_before(bench, 180)
    worker.send_signal(signal.SIGCONT)
    await bench.all_committed(worker)
    line = await said(bench, worker, "deleted by retention")
    for text in (f"partition={bench.source}-0", "lost=80", "from_offset=100", "to_offset=180"):
        assert text in line
    assert bench.end(worker) == 0

    await bench.produce(50)
    await delete_before(bench, 230)
    worker = bench.start()
    await bench.all_committed(worker)
    assert "lost=30" in await said(bench, worker, "deleted by retention")
    assert bench.end(worker) == 0
    offsets = [int(value.rsplit(b":")[-1]) for value in (await bench.outputs())[0]]
    assert offsets == [*range(100), *range(180, 200), *range(230, 250)]


@pytest.mark.full
async def test_lag_ends_behind_transactions_that_ended(bench: Bench) -> None:
    """One committed, one aborted, one that stays open for a while."""
    await bench.produce(10)
    worker = bench.start()
    await bench.all_committed(worker)
    async with AIOKafkaProducer(
        bootstrap_servers=bench.bootstrap, transactional_id=unique("tx")
    ) as producer:
        async with producer.transaction():
            await producer.send_and_wait(bench.source, b"event", b"a", 0)
        await bench.committed_to_the_end(worker)

        await producer.begin_transaction()
        for _ in range(20):
            await producer.send_and_wait(bench.source, b"event", b"b", 0)
        line = await said(bench, worker, "blocked by an open transaction")
        assert "offset=12" in line
        await producer.abort_transaction()
        await said(bench, worker, "the open transaction has ended")
        await bench.committed_to_the_end(worker)
    assert bench.end(worker) == 0
    assert len((await bench.outputs())[0]) == 11


@pytest.mark.full
async def test_a_group_that_is_moved_back_repeats_nothing(bench: Bench) -> None:
    await bench.produce(100)
    worker = bench.start()
    await bench.all_committed(worker)
    assert bench.end(worker) == 0
    await bench.move_group(40)

    await bench.produce(10)
    worker = bench.start()
    line = await said(bench, worker, "the group's offset lies before the state's")
    assert "group=40" in line
    await bench.all_committed(worker)
    assert bench.end(worker) == 0
    assert await bench.outputs() == bench.expected
