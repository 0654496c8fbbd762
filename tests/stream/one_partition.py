"""One partition without Faust: a real broker, a counting pipeline, and commits on demand."""

import asyncio
from typing import ClassVar

from aiokafka import TopicPartition

from stream.config.settings import Settings
from stream.kafka.fetching import MicroBatch
from stream.partition.engine import Engine
from stream.partition.exactly_once import ExactlyOnce
from stream.partition.opening import Parts
from stream.partition.partition import PartitionTask
from stream.partition.processing import Surroundings
from stream.pipeline.records import Records, Row
from stream.storage.store_options import StoreMemory
from tests.patience import PATIENCE_S
from tests.stream.counting import CountingPipeline
from tests.stream.kafka_tools import create_topics, unique
from tests.stream.runs import each


class Pipeline(CountingPipeline):
    """Counts, and lets a test look at and break what happens."""

    made: ClassVar[list] = []
    due: ClassVar[int | None] = None

    def __init__(self, **options):
        super().__init__(**options)
        self.advanced = []
        self.failure = None
        Pipeline.made.append(self)

    def work(self, records):
        if self.failure is not None:
            raise self.failure
        return super().work(records)

    def advance(self, now_ms):
        self.advanced.append(now_ms)
        if Pipeline.due is not None and now_ms >= Pipeline.due:
            Pipeline.due = None
            self._moved = True

    def next_due(self):
        return Pipeline.due


class Committer(ExactlyOnce):
    """The real one, slowed down or failing on demand."""

    gate: ClassVar[asyncio.Event | None] = None
    failures: ClassVar[list] = []
    boxes: ClassVar[list] = []
    silences: ClassVar[list] = []

    async def started(self, started):
        if Committer.silences:
            raise Committer.silences.pop()
        return await super().started(started)

    async def make_durable(self, producer, outbox, place):
        Committer.boxes.append(outbox)
        if Committer.gate is not None:
            await Committer.gate.wait()
        if Committer.failures:
            raise Committer.failures.pop(0)
        return await super().make_durable(producer, outbox, place)


class World:
    """One partition without Faust: the test is the transport."""

    def __init__(self, kafka, folder, **worker):
        self.app, self.source, self.output = unique("app"), unique("source"), unique("output")
        self.bootstrap = kafka.bootstrap_servers
        self.settings = Settings(
            app_id=self.app,
            data_dir=folder,
            kafka={"bootstrap_servers": kafka.bootstrap_servers},
            topics={"events": self.source, "propensity": self.output, "partitions": 1},
            worker={"commit_interval_ms": 10, "batch_size": 10, "clock": "event", **worker},
        )
        self.tp = TopicPartition(self.source, 0)
        self.engine = Engine()
        self.acknowledged = []
        self.moves = []
        self.state = None
        self.room = asyncio.Event()
        self.offset = 0
        parts = Parts(
            settings=self.settings,
            engine=self.engine,
            memory=StoreMemory(),
            new_committer=lambda tp: Committer(
                self.settings.kafka.client_options(),
                app_id=self.app,
                source=tp,
                changelog=self.settings.changelog,
            ),
            new_pipeline=Pipeline,
            scorer=lambda: "scorer",
            due_of=each(lambda _value: None),
        )
        self.failed_scorers = []
        self.models = 3
        self.around = Surroundings(
            parts,
            self,
            self.acknowledged.append,
            self.room.set,
            self.set_aside,
            self.confirm_topic,
        )
        self.task = PartitionTask(self.tp, self.around)
        self.running = None

    async def create(self):
        await create_topics(self.bootstrap, self.source, self.output)
        await create_topics(self.bootstrap, self.settings.changelog, cleanup_policy="compact")
        return self

    async def set_aside(self, failure):
        self.failed_scorers.append(failure.version)
        return len(self.failed_scorers) < self.models

    async def confirm_topic(self):
        raise AssertionError("nothing is misplaced")

    async def move_to(self, tp, offset):
        assert tp == self.tp
        self.moves.append(offset)

    def log_state(self, _tp):
        return self.state

    async def start(self):
        self.running = asyncio.create_task(self.task.run())
        await self.until(lambda: self.task.has_room or self.running.done())

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # any state of the task, not one event
                await asyncio.sleep(0.005)

    async def stop(self):
        if self.running is not None and not self.running.done():
            self.task.stop()
            await self.running
        self.engine.close()

    def batch(self, count, timestamp=1):
        start = self.offset
        self.offset += count
        records = [Row(n, timestamp, b"key", b"") for n in range(start, start + count)]
        return MicroBatch(self.tp, Records.of(records), start, start + count)

    async def push(self, batch):
        await self.until(lambda: self.task.has_room)
        assert self.task.offer(batch)
        self.task.deliver(batch)
