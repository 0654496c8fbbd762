"""The one broker of a benchmark: logs that are kept, topics of a run that are not, offsets."""

import asyncio
import contextlib
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.log import LogPlan, rows
from benchmarks.model import publish
from models.serving.manifest import read_manifest
from models.serving.measuring import version_of
from stream.broker import EmbeddedKafka
from stream.config.settings import Settings, TopicSettings
from stream.kafka.topics import create_topics, required_topics
from stream.learning.trainer import announce
from stream.replay.produce import produce

_FETCH_BYTES = 8 << 20
_READ_S = 120.0

# Deleted topics leave the disk at once instead of after a minute.
_PROPERTIES = {"log.segment.delete.delay.ms": "1000"}

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outputs:
    """What a topic holds: per partition, the offsets of its records and the records."""

    offsets: dict[int, Ints]
    records: list[ConsumerRecord]

    def before(self, ends: Mapping[int, int]) -> int:
        """Count the records below these offsets."""
        return sum(int(np.searchsorted(self.offsets[p], end)) for p, end in ends.items())


@dataclass
class Place:
    """A broker with the benchmark's logs and model, and a folder for what runs leave."""

    bootstrap: str
    folder: Path
    architecture: str = "gru"

    @classmethod
    @contextlib.contextmanager
    def open(cls, bootstrap: str | None, architecture: str = "gru") -> Iterator[Self]:
        """Start a broker, or use one that runs; all that was written here is removed at the end."""
        folder = Path(tempfile.mkdtemp(prefix="intentstream-bench-"))
        broker = None
        try:
            if bootstrap is None:
                broker = EmbeddedKafka(folder / "kafka", 1, _PROPERTIES)
                bootstrap = broker.start(print).bootstrap_servers
            publish(folder / "models", architecture)
            place = cls(bootstrap, folder, architecture)
            try:
                yield place
            finally:
                # Of a broker that goes on only the logs are worth keeping.
                asyncio.run(place.delete(place.name))
        finally:
            if broker is not None:
                broker.stop()
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def name(self) -> str:
        """Unique; part of the name of the topics that all runs share."""
        return self.folder.name

    @property
    def script(self) -> Path:
        """The TorchScript file that everybody scores with."""
        return self.folder / "models" / version_of(self.architecture) / "model.pt"

    def tree(self, run: str, log: str, partitions: int, **sections: Mapping[str, Any]) -> Any:
        """The settings of a worker under test, as a tree: topics of its own but for the log."""
        # None with the partitions of this log may be left for the next run, which may have more.
        topics = {kind: f"{run}.{kind}" for kind in TopicSettings.kinds()}
        # The model is this place's: another one's announcement would be refused.
        shared = {"models": f"{self.name}.models", "status": f"{self.name}.status"}
        return {
            **sections,
            "app_id": run,
            "data_dir": self.folder / run,
            "models_dir": self.folder / "models",
            "kafka": {"bootstrap_servers": self.bootstrap},
            "topics": {**topics, **shared, "partitions": partitions, "events": log},
        }

    async def prepare(self, settings: Settings) -> None:
        """Compile the kernels, create a worker's topics and announce the model, each once."""
        await asyncio.to_thread(_compile_kernels)
        created = await create_topics(settings)
        if settings.topics.models in created:
            await announce(settings, read_manifest(self.script.parent))

    async def log(self, plan: LogPlan) -> str:
        """Produce a log unless it is there; return its topic."""
        async with self._admin() as admin:
            there = plan.topic in await admin.list_topics()
        if there and sum((await self.ends(plan.topic)).values()) == plan.events:
            return plan.topic
        await self.empty_log(plan)
        await self.fill(plan)
        return plan.topic

    async def empty_log(self, plan: LogPlan, topic: str | None = None) -> None:
        """Create a log's topic with nothing in it."""
        name = topic or plan.topic
        settings = Settings(**self.tree("bench", name, plan.partitions))
        spec = next(s for s in required_topics(settings) if s.name == name)
        await create_topics(settings, [spec])

    async def fill(
        self, plan: LogPlan, topic: str | None = None, end_ms: int | None = None
    ) -> None:
        """Produce a log's records as fast as the broker takes them; `end_ms` as in `rows`."""
        settings = Settings(kafka={"bootstrap_servers": self.bootstrap})
        await produce(settings, rows(plan, end_ms), topic=topic or plan.topic)

    async def create(self, topic: str, partitions: int) -> None:
        """Create a plain topic."""
        async with self._admin() as admin:
            await admin.create_topics([NewTopic(topic, partitions, 1)])

    async def delete(self, part: str) -> None:
        """Delete every topic whose name contains `part`."""
        async with self._admin() as admin:
            names = [name for name in await admin.list_topics() if part in name]
            if names:
                await admin.delete_topics(names)

    async def ends(self, topic: str) -> dict[int, int]:
        """End of each partition."""
        async with self.watcher(topic) as watcher:
            return await watcher()

    @contextlib.asynccontextmanager
    async def watcher(self, topic: str) -> AsyncIterator["Watcher"]:
        """Ask again and again for the end of what a read_committed subscriber may see."""
        consumer = self._consumer(topic)
        await consumer.start()
        try:
            yield Watcher(consumer, sorted(consumer.assignment()))
        finally:
            await consumer.stop()

    async def read(self, topic: str, *, values: bool = True) -> Outputs:
        """Everything that a read_committed subscriber sees in a topic up to its end now.

        Args:
            topic: to read.
            values: keep the records, not only their offsets.
        """
        consumer = self._consumer(topic, max_partition_fetch_bytes=_FETCH_BYTES, check_crcs=False)
        await consumer.start()
        try:
            tps = sorted(consumer.assignment())
            ends = await consumer.end_offsets(tps)
            offsets: dict[int, list[int]] = {tp.partition: [] for tp in tps}
            records: list[ConsumerRecord] = []
            async with asyncio.timeout(_READ_S):
                while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                    for tp, chunk in (await consumer.getmany(timeout_ms=200)).items():
                        offsets[tp.partition] += [record.offset for record in chunk]
                        if values:
                            records += chunk
        finally:
            await consumer.stop()
        return Outputs({p: np.array(found, np.int64) for p, found in offsets.items()}, records)

    def _consumer(self, topic: str, **options: Any) -> AIOKafkaConsumer:
        """A consumer without a group, assigned all partitions."""
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **options,
        )

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


@dataclass(frozen=True)
class Watcher:
    """Tells how far the committed records of a topic reach."""

    consumer: AIOKafkaConsumer
    partitions: Sequence[TopicPartition]

    async def __call__(self) -> dict[int, int]:
        """Partition -> last stable offset, now."""
        ends = await self.consumer.end_offsets(self.partitions)
        return {tp.partition: end for tp, end in ends.items()}


@functools.cache
def _compile_kernels() -> None:
    """Fill the cache of kernels; a worker that compiles them is not ready for minutes."""
    subprocess.run([sys.executable, "-m", "stream.worker.warming"], check=True)
