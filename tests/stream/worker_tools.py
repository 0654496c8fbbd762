"""Worker processes under test, and what a serial run of the same log gives."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.forking import Forked
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, end_offsets, produce, read_all, unique

ROOT = Path(__file__).parents[2]


class Bench:
    """Topics and settings of one test, and the worker processes that it starts."""

    def __init__(self, bootstrap: str, folder: Path, partitions: int = 2, **worker: object) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.partitions = partitions
        self.app = unique("app")
        self.source, self.output = unique("source"), unique("output")
        self.expected: dict[int, list[bytes]] = {n: [] for n in range(partitions)}
        self.processes: list[Forked] = []
        self._counts: Counter[bytes] = Counter()
        self._produced = Counter()
        self._worker = {"commit_interval_ms": 20, "batch_size": 200, **worker}

    @property
    def changelog(self) -> str:
        return f"{self.app}.users.changelog"

    async def create(self, **configs: str) -> "Bench":
        """Make the topics; `configs` are of all three."""
        await create_topics(
            self.bootstrap, self.source, self.output, partitions=self.partitions, **configs
        )
        await create_topics(
            self.bootstrap,
            self.changelog,
            partitions=self.partitions,
            cleanup_policy="compact",
            **configs,
        )
        return self

    def environment(self, data: str = "data", **more: str) -> dict[str, str]:
        prefix = "INTENTSTREAM_"
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(prefix)},
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "default",
            f"{prefix}APP_ID": self.app,
            f"{prefix}DATA_DIR": str(self.folder / data),
            f"{prefix}KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            f"{prefix}TOPICS__EVENTS": self.source,
            f"{prefix}TOPICS__PROPENSITY": self.output,
            f"{prefix}TOPICS__PARTITIONS": str(self.partitions),
            **{f"{prefix}WORKER__{k.upper()}": str(v) for k, v in self._worker.items()},
            **more,
        }

    def start(self, fault: str = "", data: str = "data", **more: str) -> Forked:
        number = len(self.processes)
        process = Forked(
            "tests.stream.counting:program",
            [],
            self.environment(data, INTENTSTREAM_FAULT=fault, **more),
            self.folder / f"worker-{number}.log",
        )
        self.processes.append(process)
        return process

    def log(self, process: Forked) -> str:
        return (self.folder / f"worker-{self.processes.index(process)}.log").read_text()

    async def produce(self, per_partition: int, users: int = 50) -> None:
        for partition in range(self.partitions):
            records = []
            for _ in range(per_partition):
                offset = self._produced[partition]
                self._produced[partition] += 1
                key = b"p%d-user%d" % (partition, offset * 7919 % users)
                self._counts[key] += 1
                records.append((key, b"event"))
                self.expected[partition].append(b"%s:%d:%d" % (key, self._counts[key], offset))
            await produce(self.bootstrap, self.source, records, partition=partition)

    async def committed(self) -> dict[int, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(
                self.app, partitions=[TopicPartition(self.source, n) for n in self.expected]
            )
        except KafkaError:  # the coordinator is not there yet
            return {}
        finally:
            await admin.close()
        return {tp.partition: max(known.offset, 0) for tp, known in offsets.items()}

    async def group_at(self, offset: int, process: Forked) -> None:
        """Wait until this offset of partition 0 is committed."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.committed()).get(0) != offset:
                assert process.poll() is None, self.log(process)
                await asyncio.sleep(0.1)

    async def committed_to_the_end(self, process: Forked) -> None:
        """Wait until the committed offsets are the ends of the log, markers included."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.committed() != {
                tp.partition: end
                for tp, end in (await end_offsets(self.bootstrap, self.source)).items()
            }:
                assert process.poll() is None, self.log(process)
                await asyncio.sleep(0.1)

    async def all_committed(self, process: Forked | None = None) -> bool:
        """Wait until everything produced is committed; False if the process ends before."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if await self.committed() == dict(self._produced):
                return True
            if process is not None and process.poll() is not None:
                return False
            await asyncio.sleep(0.05)
        raise AssertionError(
            f"not committed: {await self.committed()} of {dict(self._produced)};"
            f" {[self.log(p) for p in self.processes[-2:]]}"
        )

    async def move_group(self, offset: int) -> None:
        """Reset the group's offset of partition 0, as an operator does while no worker runs."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.app, enable_auto_commit=False
        )
        await consumer.start()
        try:
            tp = TopicPartition(self.source, 0)
            consumer.assign([tp])
            await consumer.commit({tp: offset})
        finally:
            await consumer.stop()

    async def outputs(self) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {n: [] for n in self.expected}
        for record in await read_all(self.bootstrap, self.output):
            found[record.partition].append(record.value)
        return found

    def end(self, process: Forked, number: int = signal.SIGTERM) -> int:
        process.send_signal(number)
        return process.wait(PATIENCE_S)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
