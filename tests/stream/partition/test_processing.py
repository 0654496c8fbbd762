"""An open partition at work: order, room, commits, timers, models."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from stream.kafka.fetching import MicroBatch
from stream.kafka.transport import LogState
from stream.partition.inbox import ROOM
from stream.pipeline.records import Records
from tests.stream.kafka_tools import committed, read_all
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
    assert max(Pipeline.made[0].advanced, default=0) == 0

    world.state = LogState(2000, 2000, 119_999)
    await asyncio.sleep(1.2)
    assert max(Pipeline.made[0].advanced, default=0) < 120_000
    world.state = LogState(2000, 2000, 120_000)
    await world.until(lambda: Pipeline.due is None)

    assert Pipeline.made[0].advanced[-1] == 120_000
    await world.until(lambda: Committer.boxes)


@pytest.mark.parametrize("world", [{"clock": "wall"}], indirect=True)
async def test_behind_an_open_transaction_no_timer_fires(world):
    """The users whose events it hides may be there: their silence is not known."""
    Pipeline.due = 60_000
    now = time.time_ns() // 1_000_000
    await world.start()
    await world.push(world.batch(10, timestamp=1_000))
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 10, 2000))
    world.state = LogState(stable_end=2000, high_water=2021, polled_at_ms=now)
    await asyncio.sleep(1.2)
    assert set(Pipeline.made[0].advanced) == {1_000}

    world.state = LogState(2021, 2021, now)
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 2000, 2021))
    await world.until(lambda: Pipeline.due is None)
    assert Pipeline.made[0].advanced[-1] == now


async def test_an_open_transaction_is_logged_and_shown_until_it_ends(world, monkeypatch):
    monkeypatch.setattr("stream.partition.open_transaction.PATIENCE_S", 0.1)
    await world.start()
    await world.push(world.batch(10))
    with capture_logs() as logs:
        world.state = LogState(stable_end=10, high_water=31, polled_at_ms=1)
        await world.until(lambda: world.task.blocked_at == 10)
        world.state = LogState(31, 31, 2)
        await world.until(lambda: world.task.blocked_at is None)
    lines = [line for line in logs if "open transaction" in line["event"]]
    assert [line.get("behind") for line in lines] == [21, None]
    assert {line["offset"] for line in lines} == {10}
    assert lines[0]["partition"] == f"{world.tp.topic}-0"


async def test_markers_behind_the_last_record_are_committed_too(world):
    """Otherwise a transactional producer leaves a lag of 1 for ever."""
    await world.start()
    await world.push(world.batch(10))
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 10, 11))
    await world.until(lambda: world.task.snapshot.offset == 11)
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 11, 213))
    await world.stop()

    assert world.task.snapshot.offset == 213
    assert await committed(world.bootstrap, world.app, world.tp) == 213
    assert len(await read_all(world.bootstrap, world.output)) == 10


async def test_what_retention_deleted_is_counted_durably(world):
    await world.start()
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 0, 5, lost=5))
    world.offset = 5
    await world.push(world.batch(10))
    await world.until(lambda: world.task.snapshot.offset == 15)
    assert world.task.snapshot.counters.lost == 5
    assert world.task.offer(MicroBatch(world.tp, Records.of(()), 15, 17, lost=2))
    await world.until(lambda: world.task.snapshot.counters.lost == 7)
    await world.stop()

    assert Pipeline.made[0].counters.consumed == 10
    assert world.task.snapshot.offset == 17


async def test_a_new_model_reaches_the_open_pipeline(world):
    await world.start()
    await world.task.replace_scorer("better")

    assert Pipeline.made[0].scorer == "better"
