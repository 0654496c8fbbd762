import asyncio
import gc
import weakref
from collections import Counter

import pytest
from aiokafka import TopicPartition

from stream.config.settings import Settings
from stream.worker.app import WorkerApp
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import committed, create_topics, produce, unique

pytestmark = pytest.mark.kafka

# Faust and mode warn about their own use of the standard library.
FAUST_WARNINGS = "ignore::DeprecationWarning"


class Taker:
    """An intake that takes everything from position 0, as long as there is room."""

    def __init__(self, room=1_000_000):
        self.room = asyncio.Event()
        self.free = room
        self.positions = {}
        self.batches = []
        self.arrived = asyncio.Event()
        self.revoked = []
        self.app = None
        self.start_at = {}
        self.failed = asyncio.get_running_loop().create_future()

    async def open(self, tp):
        offset = self.start_at.get(tp.partition, 0)
        await self.app.intake.thread.move_to(tp, offset)
        self.positions[tp] = offset
        self.room.set()

    def assign(self, partitions):
        for tp in partitions:
            asyncio.get_running_loop().create_task(self.open(tp))

    async def revoke(self, partitions):
        for tp in partitions:
            self.revoked.append(tp)
            self.positions.pop(tp, None)

    def wanted(self):
        return list(self.positions) if self.free > 0 else []

    def all_wanted(self):
        return True

    def offer(self, batch):
        if self.positions.get(batch.tp) != batch.start:
            return False
        self.positions[batch.tp] = batch.end
        self.free -= bool(batch.records)
        return True

    def expected(self, tp):
        return self.positions.get(tp)

    def deliver(self, batch):
        self.batches.append(batch)
        self.arrived.set()

    def fail(self, error):
        self.failed.set_exception(error)

    def offsets(self):
        return sorted((b.tp.partition, r.offset) for b in self.batches for r in b.records)

    async def until(self, count):
        async with asyncio.timeout(PATIENCE_S):
            while len(self.offsets()) < count:
                self.arrived.clear()
                await self.arrived.wait()


class Running:
    def __init__(self, kafka, taker, topic, **worker):
        settings = Settings(
            app_id=unique("app"),
            kafka={"bootstrap_servers": kafka.bootstrap_servers},
            topics={"events": topic},
            worker=worker,
        )
        self.app = taker.app = WorkerApp(settings, taker, unique("member").replace("-", ""))

    async def __aenter__(self):
        await self.app.start()
        return self.app

    async def __aexit__(self, *_):
        await self.app.stop()


@pytest.fixture
async def topic(kafka):
    name = unique("events")
    await create_topics(kafka.bootstrap_servers, name, partitions=2)
    return name


async def fill(kafka, topic, count, partition=0):
    records = [(b"key", b"value %d" % n) for n in range(count)]
    await produce(kafka.bootstrap_servers, topic, records, partition=partition)


@pytest.mark.filterwarnings(FAUST_WARNINGS)
async def test_a_backlog_comes_in_bounded_batches_in_order(kafka, topic):
    await fill(kafka, topic, 1000)
    await fill(kafka, topic, 700, partition=1)
    taker = Taker()

    async with Running(kafka, taker, topic, batch_size=300):
        await taker.until(1700)

    assert len(taker.offsets()) == len(set(taker.offsets())) == 1700
    sizes = [len(batch.records) for batch in taker.batches]
    assert max(sizes) == 300
    for partition in (0, 1):
        mine = [batch for batch in taker.batches if batch.tp.partition == partition]
        assert [b.start for b in mine[1:]] == [b.end for b in mine[:-1]]
        assert [r.value for b in mine for r in b.records] == [
            b"value %d" % n for n in range(1000 if partition == 0 else 700)
        ]


@pytest.mark.filterwarnings(FAUST_WARNINGS)
async def test_a_batch_that_is_acknowledged_leaves_memory_at_once(kafka, topic):
    await fill(kafka, topic, 1000)
    taker = Taker()
    async with Running(kafka, taker, topic, batch_size=100) as app:
        await taker.until(1000)
        gc.collect()
        gc.disable()
        try:
            alive = [weakref.ref(batch) for batch in taker.batches]
            while taker.batches:
                app.acknowledge(taker.batches.pop())
            # Faust and the loop may hold the last that they handed on.
            assert sum(batch() is not None for batch in alive) <= 2
        finally:
            gc.enable()


@pytest.fixture
def no_polling(monkeypatch):
    """What does not come by itself would be found after ten minutes only, and so by no test."""
    monkeypatch.setattr("stream.kafka.transport._POLL_MS", 600_000)


@pytest.mark.filterwarnings(FAUST_WARNINGS)
async def test_a_lone_event_comes_by_itself(kafka, topic, no_polling):
    taker = Taker()
    async with Running(kafka, taker, topic):
        for number in range(4):
            await fill(kafka, topic, 1)
            await taker.until(number + 1)


@pytest.mark.filterwarnings(FAUST_WARNINGS)
async def test_without_room_nothing_is_fetched_and_room_wakes_it(kafka, topic, no_polling):
    await fill(kafka, topic, 1000)
    taker = Taker(room=2)
    async with Running(kafka, taker, topic, batch_size=100) as app:
        await taker.until(200)
        await asyncio.sleep(1)
        assert len(taker.batches) == 2

        taker.free = 1
        taker.room.set()
        await taker.until(300)
        assert len(taker.batches) == 3
        assert app.intake.thread.log_state(TopicPartition(topic, 0)).high_water == 1000


@pytest.mark.filterwarnings(FAUST_WARNINGS)
async def test_a_partition_continues_where_its_owner_says(kafka, topic):
    await fill(kafka, topic, 100)
    taker = Taker()
    taker.start_at[0] = 40

    async with Running(kafka, taker, topic):
        await fill(kafka, topic, 50, partition=1)
        await taker.until(60 + 50)
        # A batch that does not continue the partition is refused and read again from there.
        taker.positions[TopicPartition(topic, 0)] = 90
        await fill(kafka, topic, 1)
        await taker.until(60 + 50 + 11)

    seen = Counter(offset for partition, offset in taker.offsets() if partition == 0)
    assert seen == Counter([*range(40, 101), *range(90, 100)])


@pytest.mark.filterwarnings(FAUST_WARNINGS)
async def test_faust_commits_nothing_of_its_own(kafka, topic):
    await fill(kafka, topic, 10)
    taker = Taker()
    running = Running(kafka, taker, topic)
    async with running as app:
        await taker.until(10)
        for batch in taker.batches:
            batch.message.ack(app.consumer)
        assert not app.consumer.unacked
        assert await app.consumer.commit() is False
        await app.intake.thread.commit_offset(TopicPartition(topic, 0), 7)

    name = running.app.conf.id
    assert await committed(kafka.bootstrap_servers, name, TopicPartition(topic, 0)) == 7
