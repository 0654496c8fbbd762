"""A shop of its own on the shared broker: topics, settings, and real worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from models.history import history_bytes
from schemas.codec import decode
from stream.config.settings import Settings, TopicSettings
from stream.kafka.topics import create_topics
from stream.storage.store import RocksStore
from stream.storage.store_identity import StoreIdentity
from stream.storage.store_options import StoreMemory
from stream.testing import whole_records
from tests.forking import Forked, Process
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import read_all, unique

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    import numpy as np
    from aiokafka import ConsumerRecord

    from models.overflow import Held

M = TypeVar("M")
T = TypeVar("T")

REPO = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "stream.cli.main"]


def run_program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `intentstream` to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=REPO,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def retried(ask: Callable[[], T], seconds: float = PATIENCE_S) -> T:
    """Ask again while a broker is just going or coming."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (KafkaError, TimeoutError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


@dataclass
class Worker:
    """A worker process and its log."""

    process: Process
    log: Path

    def said(self) -> str:
        """Its log, less the stacks that a process shows before it is cut off."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(("  File ", "Thread ")))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        """SIGTERM, and a clean end."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        assert code == 0, self.said()[-3000:]


@dataclass
class World:
    """Topics, settings and processes of one test."""

    folder: Path
    bootstrap: str
    settings: Settings
    workers: list[Worker] = field(default_factory=list)

    @staticmethod
    def make(
        folder: Path,
        bootstrap: str,
        app_id: str = "",
        create: Callable[[Settings], Coroutine[None, None, object]] = create_topics,
        **sections: dict[str, object],
    ) -> World:
        """`create`: makes the topics; `app_id`: a random one unless given."""
        name = app_id or unique("shop")
        topics = {kind: f"{name}.{kind}" for kind in TopicSettings.kinds()}
        tree = {
            **sections,
            "app_id": name,
            "data_dir": folder / "data",
            "models_dir": folder / "models",
            "kafka": {"bootstrap_servers": bootstrap},
            "topics": {"partitions": 2, **topics, **sections.get("topics", {})},
        }
        world = World(folder, bootstrap, Settings(**tree))
        world.write_config()
        asyncio.run(create(world.settings))
        return world

    @property
    def config(self) -> Path:
        return self.folder / "settings.toml"

    def write_config(self) -> None:
        sections = self.settings.model_dump(mode="json", exclude_none=True)
        plain = {k: v for k, v in sections.items() if not isinstance(v, dict)}
        lines = [f"{k} = {json.dumps(v)}" for k, v in plain.items()]
        for name, section in sections.items():
            if isinstance(section, dict):
                lines.append(f"[{name}]")
                lines += [f"{k} = {json.dumps(v)}" for k, v in section.items()]
        self.config.write_text("\n".join(lines), encoding="utf-8")

    @property
    def partitions(self) -> range:
        return range(self.settings.topics.partitions)

    def start_worker(
        self, program: Sequence[str] = (), *arguments: str, **environment: str
    ) -> Worker:
        """Start a worker: a program like `PROGRAM`, or a fork.

        INTENTSTREAM_DATA_DIR gives it a data folder of its own.
        """
        log = self.folder / f"worker-{len(self.workers)}.log"
        arguments = ("worker", "--config", str(self.config), *arguments)
        process: Process
        if not program:
            process = Forked("stream.cli.main:main", arguments, os.environ | environment, log)
        else:
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [*program, *arguments],
                    cwd=REPO,
                    env=os.environ | environment,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()

    def run(self, command: str, *arguments: str) -> str:
        done = run_program(command, *arguments, "--config", str(self.config))
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def committed(self) -> int:
        """Source records covered by committed offsets, over all partitions."""
        return sum(self.committed_offsets().values())

    def committed_offsets(self) -> dict[int, int]:
        """Source partition -> committed offset, where there is one."""
        return retried(lambda: asyncio.run(self._committed()))

    async def _committed(self) -> dict[int, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            await admin.start()
            offsets = await admin.list_consumer_group_offsets(self.settings.app_id)
        except GroupCoordinatorNotAvailableError:
            return {}  # The broker makes its offsets topic when the first group comes.
        finally:
            await admin.close()
        events = self.settings.topics.events
        return {
            tp.partition: max(known.offset, 0)
            for tp, known in offsets.items()
            if tp.topic == events
        }

    def wait_committed(self, records: int, seconds: float = PATIENCE_S) -> None:
        """Wait until that many source records are consumed and committed."""
        deadline = time.monotonic() + seconds
        while (done := self.committed()) < records:
            running = self.workers[-1]
            assert running.process.poll() is None, running.said()[-3000:]
            assert time.monotonic() < deadline, (done, records, running.said()[-3000:])
            time.sleep(0.2)

    def raw(self, topic: str) -> list[ConsumerRecord]:
        """What a read_committed subscriber sees."""
        return retried(lambda: asyncio.run(read_all(self.bootstrap, topic)))

    def read(self, topic: str, kind: type[M]) -> list[M]:
        return [decode(kind, record.value) for record in self.raw(topic)]

    def wait_for(
        self, topic: str, kind: type[M], count: int, seconds: float = PATIENCE_S
    ) -> list[M]:
        deadline = time.monotonic() + PATIENCE_S
        while len(found := self.read(topic, kind)) < count:
            running = self.workers[-1]
            assert running.process.poll() is None, running.said()[-3000:]
            assert time.monotonic() < deadline, (found, running.said()[-3000:])
            time.sleep(0.2)
        return found

    def records(self) -> dict[str, np.void]:
        """The stored records of all users; no worker may be running."""
        return {user: record for user, (record, _) in self.tables().items()}

    def histories(self) -> dict[str, bytes]:
        """The canonical histories of all users; no worker may be running."""
        return {
            user: history_bytes(record, held.entries)
            for user, (record, held) in self.tables().items()
        }

    def tables(self) -> dict[str, tuple[np.void, Held]]:
        """User -> record and what lies beyond its ring; no worker may be running."""
        out: dict[str, tuple[np.void, Held]] = {}
        for partition in self.partitions:
            identity = StoreIdentity(
                self.settings.app_id,
                self.settings.changelog,
                partition,
                self.settings.topics.partitions,
            )
            path = self.settings.data_dir / "state" / self.settings.app_id / str(partition)
            with RocksStore.open(path, identity, StoreMemory()) as store:
                out |= whole_records(store, self.settings)
        return out
