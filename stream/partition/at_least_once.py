"""At least once: outputs as they come, the state and the offset behind them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stream.faults import stage
from stream.kafka.aiokafka_private import producer_identity, take_identity
from stream.kafka.clients import STOP_TIMEOUT_S, stop_producer
from stream.kafka.sending import all_of, send_records
from stream.partition.commit import OneProducer
from stream.pipeline.outbox import Outbox, Outputs
from stream.pipeline.packed import Messages

FENCE_KEY: Final = b"f"
"""Changelog key of the record that shuts out earlier owners; not part of any state."""

CommitOffset = Callable[[TopicPartition, int], Awaitable[None]]
"""Commits a source offset for the consumer group; refused when the member is no longer in it."""


class AtLeastOnce(OneProducer):
    """Outputs, then the changelog, then the source offset, each sent when the one before is safe.

    Outputs go out as they come; the changelog and the offset follow once per commit interval.

    What is repeated after a failure is byte-identical and carries the same ids. An owner that was
    suspended and wakes up must still not overwrite its successor's changelog. So the producer id
    and epoch are those of the partition's transactional id, which every successor raises, and a
    first record in the changelog makes its leader refuse the epochs before.
    """

    def __init__(
        self,
        client_options: dict[str, Any],
        *,
        app_id: str,
        source: TopicPartition,
        changelog: str,
        commit_offset: CommitOffset,
        outputs: Iterable[str] = (),
    ) -> None:
        """`commit_offset` must refuse when this worker has left the consumer group."""
        super().__init__(
            client_options, app_id=app_id, source=source, changelog=changelog, outputs=outputs
        )
        self._commit_offset = commit_offset
        self._ahead: list[Outputs] = []
        self._sending: asyncio.Task[None] | None = None
        self._offset_due: int | None = None
        self._offsetting: asyncio.Task[None] | None = None

    async def started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """See `OneProducer.started`."""
        owner = await self.transactional(started)
        identity = producer_identity(owner)
        await stop_producer(owner)
        producer = AIOKafkaProducer(enable_idempotence=True, **self.options)
        started.append(producer)
        take_identity(producer, identity)
        await producer.start()
        await send_records(producer, self.changelog, self.source.partition, [(FENCE_KEY, b"")])
        return producer

    async def make_durable(self, producer: AIOKafkaProducer, outbox: Outbox, place: str) -> int:
        """See `OneProducer.make_durable`."""
        if self._offsetting is not None and self._offsetting.done():
            await self._settle_offset()
        self.send(outbox.outputs)
        await self._settle_sending()
        stage(place)
        partition = self.source.partition
        last_offset = await send_records(producer, self.changelog, partition, outbox.changelog)
        if outbox.next_offset is not None:
            self._offset_due = outbox.next_offset
            if self._offsetting is None or self._offsetting.done():
                await self._settle_offset()
                self._offsetting = asyncio.create_task(self._commit_offsets())
        return last_offset

    def confirmation(self, offset: int) -> Outbox:
        """See `OneProducer.confirmation`."""
        del offset
        return Outbox({}, [(FENCE_KEY, b"")], [], None, 0)

    def send(self, outputs: Outputs) -> None:
        """Begin to send outputs ahead of their commit; see `Committer.send`."""
        if outputs:
            self._ahead.append(outputs)
        task = self._sending
        if self._ahead and (task is None or (task.done() and task.exception() is None)):
            self._sending = asyncio.create_task(self._send_ahead())

    async def _send_ahead(self) -> None:
        """Send what has gathered, again while there is more: one request is on its way at a time.

        Failures stay in the task: the commit that covers the outputs raises them.
        """
        while self._ahead and self.producer is not None:
            gathered, self._ahead = self._ahead, []
            topics: Outputs = {}
            for outputs in gathered:
                for topic, records in outputs.items():
                    topics.setdefault(topic, Messages()).extend(records)
            await all_of(
                [
                    send_records(self.producer, topic, self.source.partition, records)
                    for topic, records in topics.items()
                ]
            )

    async def _settle_sending(self) -> None:
        while (task := self._sending) is not None:
            await asyncio.shield(task)
            self._sending = None
            self.send({})

    async def close(self) -> None:
        """Commit the last offset, then release the connections."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        with contextlib.suppress(KafkaError, TimeoutError):
            await self._settle_offset()
        await super().close()

    async def _settle_offset(self) -> None:
        task, self._offsetting = self._offsetting, None
        if task is not None:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await task

    async def _commit_offsets(self) -> None:
        """Commit the newest offset, again while there is a newer one.

        Nothing waits for it: the changelog holds the offset too, and a partition starts from the
        greater of the two.
        """
        while (offset := self._offset_due) is not None:
            self._offset_due = None
            await self._commit_offset(self.source, offset)
