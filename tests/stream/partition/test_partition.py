"""A partition is opened, fails, is opened anew, or ends."""

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from stream.errors import (
    ClockRefused,
    CommitError,
    CommitFenced,
    PartitionError,
    RecordTooLarge,
    ScorerFailed,
    StoreCorrupt,
)
from stream.kafka.fetching import MicroBatch
from stream.partition.partition import MAX_REOPENED
from stream.pipeline.records import Records
from tests.stream.kafka_tools import read_all
from tests.stream.one_partition import Committer, Pipeline

pytestmark = pytest.mark.kafka


async def test_what_does_not_continue_is_refused(world):
    await world.start()
    assert not world.task.offer(MicroBatch(world.tp, world.batch(5).records, 3, 5))
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 0, 4))
    assert world.task.read_position == 4
    lost = MicroBatch(world.tp, world.batch(5).records, 4, 10)
    assert world.task.offer(lost)
    later = MicroBatch(world.tp, world.batch(5).records, 10, 15)
    assert world.task.offer(later)
    with pytest.raises(PartitionError, match=r"offsets 10 to 15 were .* out of turn: a bug"):
        world.task.deliver(later)


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


async def test_a_cluster_that_is_gone_is_waited_for(world, monkeypatch):
    monkeypatch.setattr("stream.partition.partition._SILENT_S", 0.01)
    Committer.silences = [KafkaConnectionError("nobody there")] * (2 * MAX_REOPENED)
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 1)
    assert not Committer.silences


@pytest.mark.parametrize(
    ("module", "client", "connect"),
    [
        ("stream.kafka.transactions", AIOKafkaClient, "bootstrap"),
        ("stream.storage.recovery", AIOKafkaConsumer, "start"),
    ],
)
async def test_a_cluster_that_goes_while_a_partition_is_opened_is_waited_for(
    world, monkeypatch, module, client, connect
):
    silences = [KafkaConnectionError("nobody there")] * (2 * MAX_REOPENED)

    async def connected(self):
        if silences:
            raise silences.pop()
        await getattr(client, connect)(self)

    silent = type("Silent", (client,), {connect: connected})
    monkeypatch.setattr("stream.partition.partition._SILENT_S", 0.01)
    monkeypatch.setattr(f"{module}.{client.__name__}", silent)
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: len(world.acknowledged) == 1)
    assert not silences


@pytest.mark.parametrize(
    "error", [CommitFenced("fenced"), RecordTooLarge("too large"), ClockRefused("wrong clock")]
)
async def test_what_no_other_try_heals_ends_it(world, error):
    Committer.failures = [error]
    await world.start()
    await world.push(world.batch(10))

    with pytest.raises(type(error)):
        await world.running
    assert await read_all(world.bootstrap, world.output) == []


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


async def test_when_no_model_is_left_the_task_ends_with_its_failure(world):
    world.failed_scorers = ["one", "two"]
    await world.start()
    Pipeline.made[0].failure = ScorerFailed("last", "scan raises")
    await world.push(world.batch(10))

    with pytest.raises(ScorerFailed, match="model last: scan raises"):
        await world.running
    assert world.acknowledged == []


async def test_another_error_is_the_tasks_error(world):
    await world.start()
    Pipeline.made[0].failure = ZeroDivisionError("in the pipeline")
    await world.push(world.batch(10))

    with pytest.raises(ZeroDivisionError):
        await world.running
