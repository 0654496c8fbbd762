import asyncio
import shutil
import signal
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from stream.faults import STAGES
from tests.patience import PATIENCE_S
from tests.stream.worker_tools import Bench

pytestmark = pytest.mark.kafka


@pytest.fixture
async def bench(kafka, tmp_path):
    made = await Bench(kafka.bootstrap_servers, tmp_path).create()
    yield made
    made.close()


async def test_a_worker_consumes_everything_once_and_stops_cleanly(bench):
    await bench.produce(1500)
    worker = bench.start()
    await bench.all_committed(worker)

    assert bench.end(worker) == 0
    assert "threads left: ['MainThread']" in bench.log(worker)
    assert await bench.outputs() == bench.expected

    await bench.produce(300)
    worker = bench.start()
    await bench.all_committed(worker)
    assert bench.end(worker) == 0
    assert await bench.outputs() == bench.expected


async def test_compressed_topics_are_consumed_and_restored(kafka, tmp_path):
    """The broker compresses the source, the changelog and the outputs."""
    bench = await Bench(kafka.bootstrap_servers, tmp_path).create(compression_type="zstd")
    try:
        await bench.produce(1500)
        worker = bench.start()
        await bench.all_committed(worker)
        assert bench.end(worker) == 0

        shutil.rmtree(tmp_path / "data")
        await bench.produce(300)
        worker = bench.start()
        await bench.all_committed(worker)
        assert bench.end(worker) == 0
        assert await bench.outputs() == bench.expected
    finally:
        bench.close()


async def test_a_batch_that_nobody_can_read_ends_the_worker(bench, kafka):
    await bench.produce(50)
    (segment,) = kafka.folder.glob(f"**/{bench.source}-1/*.log")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)

    worker = bench.start()
    assert worker.wait(PATIENCE_S) == 1
    assert f"LogUnreadable: {bench.source}-1: records from offset 0 are damaged" in bench.log(
        worker
    )


@pytest.mark.full
@pytest.mark.parametrize("stage", [name for name in STAGES if name != "after_recovery"])
async def test_killed_at_any_stage_three_times_nothing_is_lost_or_doubled(bench, stage):
    await bench.produce(2000)
    kills = 0
    for passage in (2, 1, 3):
        worker = bench.start(f"{stage}:{passage}:kill")
        finished = await bench.all_committed(worker)
        if finished:
            bench.end(worker, signal.SIGKILL)
        else:
            assert worker.wait(PATIENCE_S) == -signal.SIGKILL, bench.log(worker)
            kills += 1
        await bench.produce(100)
    worker = bench.start()
    await bench.all_committed(worker)

    assert kills >= 2
    assert bench.end(worker) == 0
    assert await bench.outputs() == bench.expected


@pytest.mark.full
async def test_a_wiped_or_stale_data_folder_is_restored(bench):
    state = bench.folder / "data"
    await bench.produce(500)
    worker = bench.start()
    await bench.all_committed(worker)
    bench.end(worker)
    shutil.copytree(state, bench.folder / "old")

    await bench.produce(500)
    shutil.rmtree(state)
    worker = bench.start()
    await bench.all_committed(worker)
    bench.end(worker, signal.SIGKILL)

    await bench.produce(500)
    shutil.rmtree(state)
    shutil.copytree(bench.folder / "old", state)
    worker = bench.start()
    await bench.all_committed(worker)

    assert bench.end(worker) == 0
    assert await bench.outputs() == bench.expected


async def test_a_damaged_data_folder_is_restored(bench):
    await bench.produce(500)
    worker = bench.start()
    await bench.all_committed(worker)
    bench.end(worker)
    for file in bench.folder.glob("data/state/*/*/MANIFEST-*"):
        file.write_bytes(b"damage" * 20)

    await bench.produce(500)
    worker = bench.start()
    await bench.all_committed(worker)

    assert bench.end(worker) == 0
    assert "wiped and restored" in bench.log(worker)
    assert await bench.outputs() == bench.expected


async def test_a_folder_of_another_partition_count_ends_the_worker(bench):
    await bench.produce(10)
    worker = bench.start()
    await bench.all_committed(worker)
    bench.end(worker)

    worker = bench.start(INTENTSTREAM_TOPICS__PARTITIONS="3")

    assert worker.wait(PATIENCE_S) == 1
    # The folder and the topic are looked at side by side: both have 2, not 3.
    said = bench.log(worker)
    assert "use another data_dir" in said or "copy the events to a new topic" in said


async def test_partitions_move_between_workers_under_load(bench):
    workers = [bench.start(data="one")]
    await bench.produce(1)
    await bench.all_committed(workers[0])
    for step in range(6):
        await bench.produce(400)
        if step == 1:
            workers.append(bench.start(data="two"))
        if step == 3:
            assert bench.end(workers.pop(0)) == 0
        await asyncio.sleep(0.7)
    await bench.all_committed()

    assert bench.end(workers[0]) == 0
    assert await bench.outputs() == bench.expected


@pytest.mark.full
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_a_zombie_is_fenced_and_exits(kafka, tmp_path, guarantee):
    bench = await Bench(kafka.bootstrap_servers, tmp_path, guarantee=guarantee).create()
    try:
        await _outlive(bench)
        found = await bench.outputs()
    finally:
        bench.close()

    for partition, expected in bench.expected.items():
        assert list(dict.fromkeys(found[partition])) == expected
        assert guarantee == "at_least_once" or len(found[partition]) == len(expected)


async def _outlive(bench):
    await bench.produce(300)
    zombie = bench.start(data="one")
    await bench.all_committed(zombie)
    zombie.send_signal(signal.SIGSTOP)
    await bench.produce(300)
    successor = bench.start(data="two")
    await bench.all_committed(successor)
    await bench.produce(300)
    zombie.send_signal(signal.SIGCONT)

    assert zombie.wait(PATIENCE_S) != 0
    await bench.all_committed(successor)
    assert bench.end(successor) == 0


async def test_an_error_inside_ends_the_worker_with_that_error(bench):
    await bench.produce(100)
    worker = bench.start("after_scoring:1:raise")

    assert worker.wait(PATIENCE_S) == 1
    assert "injected at passage 1 of after_scoring" in bench.log(worker)


async def test_a_lone_event_is_answered_without_others(bench):
    await bench.produce(1)
    worker = bench.start()
    await bench.all_committed(worker)

    await bench.produce(1)  # and neither a batch nor a fetch is full
    async with asyncio.timeout(PATIENCE_S):
        while await bench.outputs() != bench.expected:
            assert worker.poll() is None, bench.log(worker)
    bench.end(worker)


@pytest.mark.full
async def test_at_least_once_loses_nothing_and_repeats_identically(kafka, tmp_path):
    bench = await Bench(kafka.bootstrap_servers, tmp_path, guarantee="at_least_once").create()
    try:
        await bench.produce(2000)
        kills = 0
        for stage in ("in_transaction", "after_commit", "before_store"):
            worker = bench.start(f"{stage}:3:kill")
            if await bench.all_committed(worker):
                bench.end(worker, signal.SIGKILL)
            else:
                assert worker.wait(PATIENCE_S) == -signal.SIGKILL, bench.log(worker)
                kills += 1
            await bench.produce(500)
        worker = bench.start()
        await bench.all_committed(worker)
        assert bench.end(worker) == 0
        found = await bench.outputs()
    finally:
        bench.close()

    assert kills
    for partition, expected in bench.expected.items():
        assert set(found[partition]) == set(expected)
        assert list(dict.fromkeys(found[partition])) == expected


async def test_at_least_once_outputs_do_not_wait_for_the_commit(kafka, tmp_path):
    bench = await Bench(
        kafka.bootstrap_servers, tmp_path, guarantee="at_least_once", commit_interval_ms=60_000
    ).create()
    try:
        await bench.produce(1)
        worker = bench.start()
        await bench.all_committed(worker)  # after a pause a commit comes at once
        await bench.produce(50)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if await bench.outputs() == bench.expected:
                    break
        assert sum((await bench.committed()).values()) == bench.partitions

        assert bench.end(worker) == 0
        await bench.all_committed()
        assert await bench.outputs() == bench.expected
    finally:
        bench.close()


async def test_sigterm_under_full_load_ends_within_seconds_without_a_replay(kafka, tmp_path):
    bench = await Bench(kafka.bootstrap_servers, tmp_path, batch_size=2000).create()
    try:
        await bench.produce(150_000, users=5000)
        worker = bench.start()
        while not sum((await bench.committed()).values()):
            assert worker.poll() is None
        began = time.monotonic()
        assert bench.end(worker) == 0
        seconds = time.monotonic() - began
        committed = await bench.committed()
        found = await bench.outputs()
    finally:
        bench.close()

    assert seconds < 30
    assert 0 < sum(committed.values()) < 300_000
    # Everything that left is committed: the next worker repeats nothing.
    assert {number: len(values) for number, values in found.items()} == committed


@pytest.mark.full
async def test_a_topic_that_is_deleted_or_grows_ends_the_worker(bench):
    await bench.produce(100)
    worker = bench.start()
    await bench.all_committed(worker)
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.bootstrap)
    await admin.start()
    await admin.create_partitions({bench.source: NewPartitions(3)})

    assert worker.wait(PATIENCE_S) == 1
    assert "copy the events to a new topic" in bench.log(worker)

    worker = bench.start(data="other", INTENTSTREAM_TOPICS__PARTITIONS="3")
    while "partition is open" not in bench.log(worker):
        assert worker.poll() is None
    await admin.delete_topics([bench.source])
    assert worker.wait(PATIENCE_S) == 1
    assert "is gone" in bench.log(worker)
    await admin.close()
