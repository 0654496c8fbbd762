"""What dies quietly in a real worker: unready first, then gone, with an exit status that is not 0.

The time to unready and to the end is set by worker.stall_ms: 20 s unless told otherwise, here 3 s,
so that what comes on top may take as long here as it may at the default.
"""

import asyncio
import json
import re
import socket
import time
import urllib.error
import urllib.request
from contextlib import closing

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import LeaveGroupRequest

from stream.config.settings import Settings
from stream.health.watchdog import CLEAN_END_S, END_AFTER
from tests.patience import PATIENCE_S
from tests.stream.worker_tools import Bench

STALL_S = 3.0
UNREADY_S, GONE_S = 30.0, 60.0
"""What is promised."""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def health(port: int) -> tuple[int, dict]:
    """Status and document; (0, {}) where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}


class Patient:
    """A worker that is broken on purpose, and what its pages said when."""

    def __init__(self, bench: Bench, stall_s: float) -> None:
        self.bench, self.stall_s = bench, stall_s
        self.port = free_port()
        self.process = None
        self.unready_s = self.gone_s = None
        self.problems: set[str] = set()

    def start(self, fault: str, data: str = "data") -> None:
        self.process = self.bench.start(
            fault,
            data,
            INTENTSTREAM_WORKER__HTTP_PORT=str(self.port),
            INTENTSTREAM_WORKER__STALL_MS=str(int(self.stall_s * 1000)),
        )

    async def until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (await asyncio.to_thread(health, self.port))[0] != 200:
            assert self.process.poll() is None, self.bench.log(self.process)
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)

    async def until_gone(self) -> int:
        """Watch from the moment of the fault on; return the exit status."""
        began = time.monotonic()
        while (status := self.process.poll()) is None:
            code, document = await asyncio.to_thread(health, self.port)
            if code != 200 and self.unready_s is None:
                self.unready_s = time.monotonic() - began
            self.problems.update(document.get("problems", ()))
            assert time.monotonic() - began < PATIENCE_S, self.bench.log(self.process)
            await asyncio.sleep(0.1)
        self.gone_s = time.monotonic() - began
        return status


async def broken_while_running(bench: Bench, fault: str, stall_s: float) -> Patient:
    patient = Patient(bench, stall_s)
    patient.start(fault)
    await patient.until_ready()
    await bench.produce(100)  # the first batch meets the fault
    patient.status = await patient.until_gone()
    return patient


async def broken_in_recovery(bench: Bench, fault: str, stall_s: float) -> Patient:
    await bench.produce(500)
    healthy = bench.start()
    await bench.all_committed(healthy)
    bench.end(healthy)
    patient = Patient(bench, stall_s)
    patient.start(fault, data="fresh")
    patient.status = await patient.until_gone()
    return patient


# faust-streaming issues 175 and 640 are agents that end, 629 a partition that is not fetched; 532
# is below, with the heartbeats.
CASES = {
    "an agent that ends": ("in_agent:1:leave", broken_while_running, "Faust"),
    "a stuck partition": ("before_store:1:hang", broken_while_running, ": processing"),
    "a consumer that stops fetching": ("in_fetch:12:hang", broken_while_running, "fetching"),
    "a recovery without progress": ("in_recovery:1:hang", broken_in_recovery, "restoring"),
    "a blocked event loop": ("after_poll:1:hang", broken_while_running, "main event loop"),
}


async def examine(kafka, folder, name, stall_s):
    fault, story, _ = CASES[name]
    folder = folder / fault.partition(":")[0]
    folder.mkdir()
    bench = await Bench(kafka.bootstrap_servers, folder).create()
    try:
        patient = await story(bench, fault, stall_s)
        patient.said = bench.log(patient.process)
    finally:
        bench.close()
    return patient


@pytest.mark.full
@pytest.mark.kafka
async def test_what_dies_quietly_turns_unready_and_ends_the_process(
    kafka, tmp_path, record_property
):
    # They wait most of the time, so all at once.
    patients = dict(
        zip(
            CASES,
            await asyncio.gather(*(examine(kafka, tmp_path, name, STALL_S) for name in CASES)),
            strict=True,
        )
    )
    for name, patient in patients.items():
        seconds = (patient.unready_s, patient.gone_s)
        record_property(name, seconds)
        assert patient.status not in (0, None), (name, patient.said)
        _, _, named = CASES[name]
        assert any(named in problem for problem in patient.problems), (name, patient.problems)
        said = [int(found) for found in re.findall(r"no progress for (\d+) s;", patient.said)]
        assert "cut off" in patient.said or max(said) >= 2 * STALL_S
        assert patient.unready_s < UNREADY_S, (name, seconds)
        assert patient.gone_s < GONE_S, (name, seconds)
        assert patient.unready_s < patient.gone_s


def test_the_default_leaves_room_within_what_is_promised():
    stall_s = Settings().worker.stall_ms / 1000
    assert stall_s <= UNREADY_S - 10
    assert END_AFTER * stall_s + CLEAN_END_S <= GONE_S - 8


async def expel(bootstrap: str, group: str) -> None:
    """Let the group forget its members, as when their heartbeats do not come through."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        described = await client.send(
            coordinator, DescribeGroupsRequest([group]), group=ConnectionGroup.COORDINATION
        )
        members = [member[0] for member in described.groups[0][5]]
        assert members
        for member in members:
            request = LeaveGroupRequest(group, member)
            left = await client.send(coordinator, request, group=ConnectionGroup.COORDINATION)
            assert left.error_code == 0
    finally:
        await client.close()


@pytest.mark.full
@pytest.mark.kafka
async def test_a_member_whose_heartbeats_are_refused_joins_anew_and_goes_on(kafka, tmp_path):
    """In faust-streaming issue 532 nothing is consumed any more after that."""
    bench = await Bench(kafka.bootstrap_servers, tmp_path).create()
    try:
        await bench.produce(200)
        worker = bench.start()
        await bench.all_committed(worker)
        for _ in range(2):
            opened = bench.log(worker).count("partition is open")
            await expel(kafka.bootstrap_servers, bench.app)
            await bench.produce(200)
            assert await bench.all_committed(worker), bench.log(worker)
            while bench.log(worker).count("partition is open") <= opened:
                assert worker.poll() is None, bench.log(worker)
                await asyncio.sleep(0.05)
        await bench.produce(200)
        assert await bench.all_committed(worker), bench.log(worker)
        assert bench.end(worker) == 0
        assert await bench.outputs() == bench.expected
    finally:
        bench.close()


@pytest.mark.full
@pytest.mark.kafka
async def test_a_healthy_worker_is_ready_and_tells_its_figures(kafka, tmp_path):
    bench = await Bench(kafka.bootstrap_servers, tmp_path).create()
    patient = Patient(bench, STALL_S)
    try:
        patient.start("")
        await patient.until_ready()
        await bench.produce(700)
        await bench.all_committed(patient.process)
        # An idle worker is a healthy one.
        for _ in range(int(3 * STALL_S / 0.5)):
            await asyncio.sleep(0.5)
            code, document = await asyncio.to_thread(health, patient.port)
            assert (code, document["problems"]) == (200, [])
        with urllib.request.urlopen(f"http://127.0.0.1:{patient.port}/metrics") as answer:  # noqa: ASYNC210
            metrics = answer.read().decode()
        assert bench.end(patient.process) == 0
    finally:
        bench.close()

    assert [p["state"] for p in document["partitions"]] == ["open", "open"]
    assert [p["offset"] for p in document["partitions"]] == [700, 700]
    assert [p["lag"] for p in document["partitions"]] == [0, 0]
    lines = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[0] != "#")
    assert lines["intentstream_ready"] == "1.0"
    assert lines['intentstream_lag_records{partition="1"}'] == "0.0"
    assert lines['intentstream_batch_records_sum{partition="0"}'] == "700.0"
    for stage in ("compute", "drain", "transaction", "store"):
        assert float(lines[f'intentstream_stage_seconds_count{{stage="{stage}"}}']) >= 2
    assert float(lines['intentstream_commit_seconds_count{partition="0"}']) >= 1
    assert float(lines['intentstream_delay_seconds_count{partition="0"}']) >= 1
    assert float(lines["process_resident_memory_bytes"]) > 1e7


@pytest.mark.full
@pytest.mark.kafka
async def test_a_port_that_is_taken_ends_the_worker_at_once(kafka, tmp_path):
    bench = await Bench(kafka.bootstrap_servers, tmp_path).create()
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        patient = Patient(bench, STALL_S)
        patient.port = taken.getsockname()[1]
        try:
            patient.start("")
            assert await asyncio.to_thread(patient.process.wait, 30) == 1
        finally:
            bench.close()
    assert "choose another worker.http_port" in bench.log(patient.process)
