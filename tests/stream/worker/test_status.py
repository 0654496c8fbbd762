import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from schemas.codec import decode
from schemas.control import WorkerStatus
from stream.config.settings import Settings
from stream.kafka.transport import LogState
from stream.partition.processing import Snapshot
from stream.pipeline.outbox import Counters
from stream.pipeline.rollout import Trials
from stream.storage.store_memory import MemoryStore
from stream.worker.status import Heartbeats
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, read_all, unique

pytestmark = pytest.mark.kafka


def task(partition, offset, *, users=0):
    store = MemoryStore()
    store.apply([(b"u%d" % n, b"x") for n in range(users)], [], 0)
    counters = Counters(consumed=offset, accepted=offset - 2, duplicate=1, late=1, overflow=1)
    return SimpleNamespace(
        tp=TopicPartition("events", partition),
        snapshot=Snapshot(offset, 700_000, counters, 5_000),
        stability={"feature.log_orders": 0.3},
        blocked_at=None,
        store=store,
    )


class Worker:
    def __init__(self, settings):
        self.settings = settings
        self.identity = SimpleNamespace(name="worker1")
        self.trials = Trials(SimpleNamespace(version="gru-2"), 0.1)
        self.lineup = SimpleNamespace(serving=SimpleNamespace(version="gru-1"))
        self.assignment = SimpleNamespace(
            tasks=[task(0, 10, users=3), task(1, 20)], ended=[], failed=None
        )

    def log_state(self, tp):
        return LogState(40, 50, 1) if tp.partition == 0 else None


async def beats(settings):
    records = await read_all(settings.kafka.bootstrap_servers, settings.topics.status)
    return [(record.key, decode(WorkerStatus, record.value)) for record in records]


async def test_every_partition_beats_and_a_closed_one_once_more(kafka):
    settings = Settings(
        kafka={"bootstrap_servers": kafka.bootstrap_servers},
        topics={"status": unique("status")},
        churn={"raise_at": 0.83},
    )
    await create_topics(kafka.bootstrap_servers, settings.topics.status)
    worker, heartbeats = Worker(settings), Heartbeats(settings)
    running = asyncio.create_task(heartbeats.run(worker))
    async with asyncio.timeout(PATIENCE_S):
        while len(await beats(settings)) < 2:  # the topic has no event
            assert not running.done(), running.exception()
            await asyncio.sleep(0.1)
    worker.assignment.tasks, worker.assignment.ended = [], [task(1, 30)]
    running.cancel()
    await asyncio.wait({running})
    await heartbeats.finish(worker)
    await heartbeats.finish(worker)

    first, second, *_, last = await beats(settings)
    assert [first[0], second[0], last[0]] == [b"0", b"1", b"1"]
    status = first[1]
    assert (status.worker_id, status.partition, status.offset) == ("worker1", 0, 10)
    assert (status.high_water, status.users, status.timers_due_at) == (50, 3, 5_000)
    assert status.watermark == 100_000
    assert (status.raise_at, status.raise_by) == (0.83, "setting")
    assert (status.late, status.overflow) == (1, 1)
    assert status.consumed == status.accepted + status.duplicate + status.late + status.invalid
    assert second[1].high_water == 20
    assert last[1].offset == 30
