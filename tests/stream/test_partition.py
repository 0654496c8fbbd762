import asyncio
import time
from typing import ClassVar

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from stream.engine import Engine
from stream.errors import (
    CommitError,
    CommitFenced,
    OffsetError,
    PartitionError,
    RecordTooLarge,
    ScorerFailed,
    StoreCorrupt,
)
from stream.exactly_once import ExactlyOnce
from stream.fetching import MicroBatch
from stream.inbox import ROOM
from stream.offsets import SourceOffsets, starting_offset
from stream.opening import Parts
from stream.partition import MAX_REOPENED, PartitionTask
from stream.processing import Surroundings
from stream.records import Records, Row
from stream.settings import Settings
from stream.store_options import StoreMemory
from stream.transport import LogState
from tests.patience import PATIENCE_S
from tests.stream.counting import CountingPipeline
from tests.stream.kafka_tools import create_topics, produce, read_all, unique
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
    expected: ClassVar[int] = 0

    def expect(self):
        Committer.expected += 1
        super().expect()

    async def started(self, started):
        if Committer.silences:
            raise Committer.silences.pop()
        return await super().started(started)

    async def make_durable(self, producer, outbox):
        Committer.boxes.append(outbox)
        if Committer.gate is not None:
            await Committer.gate.wait()
        if Committer.failures:
            raise Committer.failures.pop(0)
        return await super().make_durable(producer, outbox)


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


@pytest.fixture(autouse=True)
def clean():
    Pipeline.made, Pipeline.due = [], None
    Committer.gate, Committer.failures, Committer.boxes = None, [], []
    Committer.silences = []


@pytest.fixture
async def world(kafka, tmp_path, request):
    made = await World(kafka, tmp_path, **getattr(request, "param", {})).create()
    # The offsets that the batches claim must exist.
    await produce(made.bootstrap, made.source, [(b"key", b"")] * 2000)
    yield made
    await made.stop()


@pytest.mark.kafka
async def test_batches_are_processed_committed_and_acknowledged_in_order(world):
    await world.start()
    for _ in range(5):
        await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 5)

    assert world.moves == [0]
    assert [batch.start for batch in world.acknowledged] == [0, 10, 20, 30, 40]
    assert world.task.snapshot.offset == 50
    assert world.task.snapshot.counters.consumed == 50
    outputs = await read_all(world.bootstrap, world.output)
    assert [record.value for record in outputs] == [b"key:%d:%d" % (n + 1, n) for n in range(50)]


@pytest.mark.kafka
async def test_room_is_bounded_and_processing_goes_on_during_a_commit(world):
    Committer.gate = asyncio.Event()
    await world.start()
    # The first batch is on its way in a commit, then eight are processed, then the room is full.
    for _ in range(1 + 8 + ROOM):
        await world.push(world.batch(10))
    await world.until(lambda: Pipeline.made[0].counters.consumed == 10 * (1 + 8))
    await asyncio.sleep(0.3)

    assert Pipeline.made[0].counters.consumed == 10 * (1 + 8)
    assert not world.task.has_room
    Committer.gate.set()
    await world.until(lambda: len(world.acknowledged) == 1 + 8 + ROOM)


@pytest.mark.kafka
@pytest.mark.parametrize("world", [{"commit_interval_ms": 300}], indirect=True)
async def test_commits_follow_the_interval_except_after_a_pause(world):
    await world.start()
    began = time.perf_counter()
    for _ in range(6):
        await world.push(world.batch(1))
        await asyncio.sleep(0.1)
    await world.until(lambda: len(world.acknowledged) == 6)
    seconds = time.perf_counter() - began

    assert 2 <= len(Committer.boxes) <= 1 + seconds / 0.3 + 1
    assert Committer.boxes[0].records == 1


@pytest.mark.kafka
@pytest.mark.parametrize("world", [{"commit_interval_ms": 1000}], indirect=True)
async def test_a_commit_is_expected_as_soon_as_there_is_something_to_commit(world):
    await world.start()
    await world.push(world.batch(1))
    await world.until(lambda: len(world.acknowledged) == 1)
    expected = Committer.expected
    await world.push(world.batch(1))
    await world.until(lambda: Committer.expected > expected)
    assert len(Committer.boxes) == 1, "it is not its time yet"
    await world.until(lambda: len(world.acknowledged) == 2)


@pytest.mark.kafka
async def test_stopping_commits_what_is_processed(world):
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: Pipeline.made[0].counters.consumed == 10)
    await world.push(world.batch(10))
    await world.stop()

    outputs = len(await read_all(world.bootstrap, world.output))
    assert outputs in {10, 20}
    assert world.task.snapshot.offset == outputs


@pytest.mark.kafka
async def test_what_does_not_continue_is_refused(world):
    await world.start()
    assert not world.task.offer(MicroBatch(world.tp, world.batch(5).records, 3, 5))
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 0, 4))
    assert world.task.read_position == 4
    lost = MicroBatch(world.tp, world.batch(5).records, 4, 10)
    assert world.task.offer(lost)
    later = MicroBatch(world.tp, world.batch(5).records, 10, 15)
    assert world.task.offer(later)
    with pytest.raises(PartitionError, match="out of turn"):
        world.task.deliver(later)


@pytest.mark.kafka
async def test_a_failed_commit_opens_the_partition_anew(world):
    Committer.failures = [CommitError("the broker is away")]
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: len(Pipeline.made) == 2 and world.task.has_room)
    world.offset = 0
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 1)

    outputs = await read_all(world.bootstrap, world.output)
    assert [record.value for record in outputs] == [b"key:%d:%d" % (n + 1, n) for n in range(10)]


@pytest.mark.kafka
async def test_a_cluster_that_is_gone_is_waited_for(world, monkeypatch):
    monkeypatch.setattr("stream.partition._SILENT_S", 0.01)
    Committer.silences = [KafkaConnectionError("nobody there")] * (2 * MAX_REOPENED)
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 1)
    assert not Committer.silences


@pytest.mark.kafka
@pytest.mark.parametrize("asked", ["stream.offsets", "stream.recovery"])
async def test_a_cluster_that_goes_while_a_partition_is_opened_is_waited_for(
    world, monkeypatch, asked
):
    silences = [KafkaConnectionError("nobody there")] * (2 * MAX_REOPENED)

    class Consumer(AIOKafkaConsumer):
        async def start(self):
            if silences:
                raise silences.pop()
            await super().start()

    monkeypatch.setattr("stream.partition._SILENT_S", 0.01)
    monkeypatch.setattr(f"{asked}.AIOKafkaConsumer", Consumer)
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 1)
    assert not silences


@pytest.mark.kafka
@pytest.mark.parametrize("error", [CommitFenced("fenced"), RecordTooLarge("too large")])
async def test_a_fence_or_a_record_that_never_fits_ends_it(world, error):
    Committer.failures = [error]
    await world.start()
    await world.push(world.batch(10))

    with pytest.raises(type(error)):
        await world.running
    assert await read_all(world.bootstrap, world.output) == []


@pytest.mark.kafka
async def test_damage_found_while_running_is_wiped_and_restored(world):
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 1)
    Pipeline.made[0].failure = StoreCorrupt("checksum mismatch")
    await world.push(world.batch(10))
    await world.until(lambda: len(Pipeline.made) == 2 and world.task.has_room)

    assert world.moves == [0, 10]
    assert Pipeline.made[1].counters.consumed == 10
    world.offset = 10
    await world.push(world.batch(5))
    await world.until(lambda: len(world.acknowledged) == 2)
    outputs = await read_all(world.bootstrap, world.output)
    assert outputs[-1].value == b"key:15:14"


@pytest.mark.kafka
async def test_a_batch_that_a_model_fails_on_is_done_again_from_what_is_durable(world):
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 1)
    Pipeline.made[0].failure = ScorerFailed("one", "scan raises")
    await world.push(world.batch(10))
    await world.until(lambda: len(Pipeline.made) == 2 and world.task.has_room)

    assert world.failed_scorers == ["one"]
    assert world.moves == [0, 10]
    assert len(world.acknowledged) == 1
    world.offset = 10
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 2)
    outputs = await read_all(world.bootstrap, world.output)
    assert [record.value for record in outputs] == [b"key:%d:%d" % (n + 1, n) for n in range(20)]


@pytest.mark.kafka
async def test_many_models_may_fail_one_soon_after_the_other(world):
    world.models = 2 * MAX_REOPENED
    await world.start()
    for number in range(1, world.models):
        Pipeline.made[-1].failure = ScorerFailed(str(number), "scan raises")
        await world.push(world.batch(10))
        await world.until(
            lambda made=number + 1: len(Pipeline.made) == made and world.task.has_room
        )
        world.offset = 0
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 1)

    assert len(world.failed_scorers) == world.models - 1


@pytest.mark.kafka
async def test_when_no_model_is_left_the_task_ends_with_its_failure(world):
    world.failed_scorers = ["one", "two"]
    await world.start()
    Pipeline.made[0].failure = ScorerFailed("last", "scan raises")
    await world.push(world.batch(10))

    with pytest.raises(ScorerFailed, match="model last: scan raises"):
        await world.running
    assert world.acknowledged == []


@pytest.mark.kafka
async def test_another_error_is_the_tasks_error(world):
    await world.start()
    Pipeline.made[0].failure = ZeroDivisionError("in the pipeline")
    await world.push(world.batch(10))

    with pytest.raises(ZeroDivisionError):
        await world.running


@pytest.mark.kafka
@pytest.mark.parametrize("world", [{"clock": "wall"}], indirect=True)
async def test_with_a_backlog_timers_see_the_brokers_time(world):
    Pipeline.due = 60_000
    world.state = LogState(2000, 2000, time.time_ns() // 1_000_000)
    await world.start()
    await world.push(world.batch(10, timestamp=1_000))
    await world.until(lambda: Pipeline.made[0].advanced)
    await asyncio.sleep(0.3)

    assert set(Pipeline.made[0].advanced) == {1_000}
    await world.push(world.batch(10, timestamp=130_000))
    await world.until(lambda: Pipeline.due is None)
    assert Pipeline.made[0].advanced[-1] == 130_000


@pytest.mark.kafka
@pytest.mark.parametrize("world", [{"clock": "wall"}], indirect=True)
async def test_caught_up_timers_see_the_time_of_the_last_fetch(world):
    Pipeline.due = 120_000
    await world.start()
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 0, 2000))
    await asyncio.sleep(0.2)
    assert Pipeline.made[0].advanced == []

    world.state = LogState(2000, 2000, 119_999)
    await asyncio.sleep(1.2)
    assert Pipeline.made[0].advanced == []
    world.state = LogState(2000, 2000, 120_000)
    await world.until(lambda: Pipeline.due is None)

    assert Pipeline.made[0].advanced[-1] == 120_000
    await world.until(lambda: Committer.boxes)


@pytest.mark.kafka
async def test_a_new_model_reaches_the_open_pipeline(world):
    await world.start()
    await world.task.replace_scorer("better")

    assert Pipeline.made[0].scorer == "better"


TP = TopicPartition("events", 1)


@pytest.mark.parametrize(
    ("committed", "state", "begin", "end", "expected"),
    [
        (None, -1, 0, 0, 0),
        (None, -1, 7, 10, 7),
        (5, 5, 0, 10, 5),
        (3, 5, 0, 10, 5),
        (8, 5, 0, 10, 8),
        (None, 5, 0, 10, 5),
        (5, 5, 8, 10, 8),
        (10, 10, 0, 10, 10),
    ],
)
def test_reading_starts_where_state_and_group_agree(committed, state, begin, end, expected):
    assert starting_offset(TP, SourceOffsets(committed, begin, end), state) == expected


def test_a_topic_that_was_made_anew_is_refused():
    with pytest.raises(OffsetError, match=r"events-1.*deleted and created again.*new app_id"):
        starting_offset(TP, SourceOffsets(50, 0, 10), 50)
