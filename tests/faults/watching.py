"""What a subscriber sees and when, and what a worker process takes of the machine."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from schemas.codec import decode
from schemas.outputs import Prediction
from tests.e2e.world import Worker, World
from tests.patience import PATIENCE_S


@dataclass
class Subscriber:
    """When each prediction could be read, by its source."""

    seen: dict[tuple[int, int], float] = field(default_factory=dict)
    """(partition, offset) of the event -> ms since epoch."""

    def latencies(self, appended: dict[tuple[int, int], int]) -> list[float]:
        """From the broker's time of each event to the reading of its prediction, ms, sorted."""
        return sorted(self.seen[where] - at for where, at in appended.items())


@contextmanager
def subscribed(world: World) -> Iterator[Subscriber]:
    """Read predictions read_committed, from a thread of its own, as they become visible."""
    subscriber, ready, stop = Subscriber(), threading.Event(), threading.Event()

    async def read() -> None:
        consumer = AIOKafkaConsumer(
            world.settings.topics.propensity,
            bootstrap_servers=world.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        async with consumer:
            await consumer.seek_to_beginning()
            ready.set()
            while not stop.is_set():
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    now = time.time() * 1000
                    for record in records:
                        source = decode(Prediction, record.value).source
                        subscriber.seen[source.partition, source.offset] = now

    thread = threading.Thread(target=lambda: asyncio.run(read()))
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield subscriber
    finally:
        stop.set()
        thread.join(30)


def percentile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(int(len(values) * share), len(values) - 1)]


@dataclass(frozen=True)
class Footprint:
    """What a process and its state take."""

    resident: int
    """Bytes of memory."""
    files: int
    """Open files."""
    state: int
    """Bytes of its tables and logs on disk."""

    @staticmethod
    def of(worker: Worker, world: World) -> Footprint:
        process = Path(f"/proc/{worker.process.pid}")
        pages = int((process / "statm").read_text().split()[1])
        files = sum(1 for _ in (process / "fd").iterdir())
        folder = world.settings.data_dir / "state" / world.settings.app_id
        sizes = 0
        for path in folder.rglob("*"):
            try:
                sizes += path.stat().st_size if path.suffix in {".sst", ".log"} else 0
            except FileNotFoundError:
                continue  # compacted away meanwhile
        return Footprint(pages * os.sysconf("SC_PAGE_SIZE"), files, sizes)
