"""The partitions that this worker owns now: one task each, opened and closed with rebalances."""

import asyncio
import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog
from aiokafka import TopicPartition

from stream.errors import PartitionError
from stream.kafka.fetching import MicroBatch
from stream.partition.partition import PartitionTask

CLOSE_TIMEOUT_S: Final = 20.0
"""How long a partition may take to commit what it has when it is taken away."""

log = structlog.get_logger(__name__)


class Assignment:
    """Starts and stops partition tasks and is the transport's `Intake`."""

    def __init__(self, new_task: Callable[[TopicPartition], PartitionTask]) -> None:
        """Own nothing yet."""
        self.room = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.joined = False
        """Whether the group has ever said which partitions are this worker's, be it none."""
        self._new_task = new_task
        self._tasks: dict[TopicPartition, PartitionTask] = {}
        self._running: dict[TopicPartition, asyncio.Task[None]] = {}
        self.ended: list[PartitionTask] = []
        """Partitions given up since this was last emptied, for a last sign of life."""

    @property
    def tasks(self) -> list[PartitionTask]:
        """The partitions owned, open or opening."""
        return list(self._tasks.values())

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Start opening these; returns at once, so that a long restore delays no rebalance."""
        self.joined = True
        for tp in partitions:
            if tp in self._tasks:
                continue
            task = self._tasks[tp] = self._new_task(tp)
            running = self._running[tp] = asyncio.create_task(task.run(), name=task.where)
            running.add_done_callback(functools.partial(self._ended, tp))

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Commit what is processed and close these."""
        taken = [tp for tp in partitions if tp in self._tasks]
        for tp in taken:
            self._tasks[tp].stop()
        running = {self._running[tp] for tp in taken}
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=CLOSE_TIMEOUT_S)
        for task in late:
            log.warning("partition does not close in time", partition=task.get_name())
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def close(self) -> None:
        """Close everything."""
        await self.revoke(list(self._tasks))

    def wanted(self) -> list[TopicPartition]:
        """Return the partitions to fetch from now."""
        return [tp for tp, task in self._tasks.items() if task.has_room]

    def all_wanted(self) -> bool:
        """Return whether no open partition is left out for lack of room."""
        return all(task.has_room for task in self._tasks.values() if task.read_position is not None)

    def offer(self, batch: MicroBatch) -> bool:
        """Take the batch if it continues its partition."""
        task = self._tasks.get(batch.tp)
        return task is not None and task.offer(batch)

    def expected(self, tp: TopicPartition) -> int | None:
        """Return the position that the partition wants next, None if it is not open."""
        task = self._tasks.get(tp)
        return task.read_position if task is not None else None

    def deliver(self, batch: MicroBatch) -> None:
        """Hand over a batch that Faust's stream has brought."""
        task = self._tasks.get(batch.tp)
        if task is not None:
            task.deliver(batch)

    async def replace_scorer(self, scorer: Any) -> None:
        """Serve another model in every open partition."""
        await asyncio.gather(*(task.replace_scorer(scorer) for task in self.tasks))

    def fail(self, error: BaseException) -> None:
        """End the worker because of `error`."""
        if not self.failed.done():
            self.failed.set_exception(error)

    def _ended(self, tp: TopicPartition, done: asyncio.Task[None]) -> None:
        task = self._tasks.pop(tp)
        self.ended.append(task)
        self._running.pop(tp)
        if done.cancelled():
            self.fail(PartitionError(f"{task.where}: was cut off while it closed"))
        elif (error := done.exception()) is not None:
            self.fail(error)
