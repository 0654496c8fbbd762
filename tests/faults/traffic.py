"""Events that keep coming while something is broken, and who owned which partition meanwhile."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Self

import numpy as np
from aiokafka import AIOKafkaProducer

from schemas.codec import encode
from stream.pipeline.ingest import partition_of
from stream.pipeline.layout import Layout
from stream.pipeline.state import USER_PREFIX
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from models.overflow import Held
    from schemas.events import Event
    from tests.e2e.world import Worker, World

CHUNK_S = 0.1
PATIENCE_MS = 300_000
"""How long the producer tries: longer than any fault lasts."""


class Traffic:
    """Sends a log in the background, in its order, at a steady rate, until told to finish."""

    def __init__(
        self, world: World, log: list[Event], per_second: int, partitions: int | None = None
    ) -> None:
        """`partitions`: as many as the producer takes the topic to have, not what the world has."""
        self.sent = 0
        self._partitions = partitions or len(world.partitions)
        self._log = log
        self._world = world
        self._finish = threading.Event()
        self._per_second = per_second
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish.set()
        self._thread.join()

    def finish(self) -> int:
        """Send no more; return how many events the topic has now."""
        assert self.sent < len(self._log), "the log ended before the fault"
        self._finish.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.sent

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as error:  # noqa: BLE001 - raised again by finish
            self._error = error

    async def _send(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._world.bootstrap,
            enable_idempotence=True,
            request_timeout_ms=PATIENCE_MS,
            linger_ms=5,
        )
        topic = self._world.settings.topics.events
        async with producer:
            while self.sent < len(self._log) and not self._finish.is_set():
                count = max(int(self._per_second * CHUNK_S), 1)
                chunk = self._log[self.sent : self.sent + count]
                on_their_way = [
                    await producer.send(
                        topic,
                        encode(event),
                        key=event.user_id.encode(),
                        partition=partition_of(event.user_id.encode(), self._partitions),
                    )
                    for event in chunk
                ]
                await asyncio.sleep(CHUNK_S)
                await asyncio.gather(*on_their_way)
                self.sent += len(chunk)


def tables(world: World) -> dict[str, tuple[np.void, Held]]:
    """User -> record and what lies beyond its ring, as the changelog has them.

    That is the truth wherever the partitions are.
    """
    newest: dict[bytes, bytes | None] = {}
    for record in world.raw(world.settings.changelog):
        newest[record.key] = record.value
    layout = Layout(world.settings.state.ring, world.settings.state.hidden_size)
    found: dict[str, tuple[np.void, Held]] = {}
    for key, value in newest.items():
        if key.startswith(USER_PREFIX) and value is not None:
            found[key[len(USER_PREFIX) :].decode()] = layout.whole(key, value)
    return found


def start_apart(world: World, program: Sequence[str] = (), **environment: str) -> Worker:
    """Start a worker with a data folder of its own, as on another machine."""
    folder = world.folder / f"data-{len(world.workers)}"
    return world.start_worker(program, INTENTSTREAM_DATA_DIR=str(folder), **environment)


_LINE = re.compile(r"^(\S+Z) \[.*\] partition is (open|closed) .*\bpartition=(\S+)")


def moments(workers: Iterable[Worker]) -> dict[str, list[tuple[float, str]]]:
    """Partition -> (when, "open" or "closed"), in order, over the logs of all workers."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for worker in workers:
        for line in worker.said().splitlines():
            if match := _LINE.match(line):
                found[match[3]].append((datetime.fromisoformat(match[1]).timestamp(), match[2]))
    return {partition: sorted(events) for partition, events in found.items()}


def longest_without_owner(workers: Iterable[Worker]) -> float:
    """The longest time that a partition was open nowhere after it had been open, in seconds.

    Only for workers that said goodbye: a killed one does not log that it closed anything.
    """
    longest = 0.0
    for events in moments(workers).values():
        closed_at, owners = None, 0
        for at, what in events:
            owners += 1 if what == "open" else -1
            if what == "open" and closed_at is not None:
                longest = max(longest, at - closed_at)
            closed_at = at if owners <= 0 else None
    return longest


def goes_on(world: World, worker: Worker, seconds: float = PATIENCE_S) -> float:
    """Wait until more is committed than now, by the very same worker; return how long it took."""
    began, done = time.monotonic(), world.committed()
    while world.committed() <= done:
        assert worker.process.poll() is None, worker.said()[-5000:]
        assert time.monotonic() - began < seconds, worker.said()[-5000:]
        time.sleep(0.1)
    return time.monotonic() - began


def wait_for_log(worker: Worker, text: str, times: int = 1, seconds: float = PATIENCE_S) -> None:
    """Wait until the worker has said something so many times."""
    deadline = time.monotonic() + seconds
    while worker.said().count(text) < times:
        assert worker.process.poll() is None, worker.said()[-3000:]
        assert time.monotonic() < deadline, worker.said()[-3000:]
        time.sleep(0.1)
