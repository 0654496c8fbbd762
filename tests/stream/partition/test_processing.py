"""An open partition at work: order, room, commits, timers, models."""

import asyncio
import time

import pytest

from stream.kafka.fetching import MicroBatch
from stream.kafka.transport import LogState
from stream.partition.inbox import ROOM
from stream.pipeline.records import Records
from tests.stream.kafka_tools import read_all
from tests.stream.one_partition import Committer, Pipeline

pytestmark = pytest.mark.kafka


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


async def test_stopping_commits_what_is_processed(world):
    await world.start()
    await world.push(world.batch(10))
    await world.until(lambda: Pipeline.made[0].counters.consumed == 10)
    await world.push(world.batch(10))
    await world.stop()

    outputs = len(await read_all(world.bootstrap, world.output))
    assert outputs in {10, 20}
    assert world.task.snapshot.offset == outputs


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


async def test_a_new_model_reaches_the_open_pipeline(world):
    await world.start()
    await world.task.replace_scorer("better")

    assert Pipeline.made[0].scorer == "better"
