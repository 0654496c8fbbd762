"""Exactly once: one Kafka transaction per commit."""

import asyncio
import contextlib

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stream.errors import ClusterUnreachable
from stream.faults import stage
from stream.kafka.markers import arrived
from stream.kafka.sending import Records, all_of, nothing, send_records
from stream.partition.commit import OneProducer
from stream.pipeline.outbox import Outbox


class ExactlyOnce(OneProducer):
    """One Kafka transaction per outbox: changelog, outputs and the source offset, or nothing.

    No transaction begins before the one before it is decided in every partition: its abort would
    take back what lacks its marker, though its commit was acknowledged.
    """

    _arriving: asyncio.Task[None] | None = None

    async def started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """See `OneProducer.started`."""
        return await self.transactional(started)

    async def make_durable(self, producer: AIOKafkaProducer, outbox: Outbox, place: str) -> int:
        """See `OneProducer.make_durable`."""
        if self._arriving is not None:
            await asyncio.shield(self._arriving)
        await producer.begin_transaction()
        partition = self.source.partition
        topics: dict[str, Records] = {self.changelog: outbox.changelog, **outbox.outputs}
        sending = [
            send_records(producer, topic, partition, records) for topic, records in topics.items()
        ]
        if outbox.next_offset is not None:
            offsets = {self.source: outbox.next_offset}
            sending.append(nothing(producer.send_offsets_to_transaction(offsets, self.group)))
        last_offsets = await all_of(sending)
        stage(place)
        await producer.commit_transaction()
        written = {
            TopicPartition(topic, partition): (last, len(records))
            for (topic, records), last in zip(topics.items(), last_offsets, strict=False)
            if last >= 0
        }
        self._arriving = asyncio.create_task(arrived(producer, written))
        return last_offsets[0]

    async def close(self) -> None:
        """See `OneProducer.close`; markers that are missing are the next owner's to write."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.cancel()
            with contextlib.suppress(asyncio.CancelledError, ClusterUnreachable, KafkaError):
                await arriving
        await super().close()

    def confirmation(self, offset: int) -> Outbox:
        """See `OneProducer.confirmation`."""
        return Outbox({}, [], [], offset, 0)
