"""Exactly once: one Kafka transaction per commit.

A commit is four answers of the broker after one another, if one waits for each: the partitions
are added to the transaction, the group is, the offset is taken note of, the transaction ends. The
first two say nothing of what is in the transaction. So they are asked for as soon as there is
something to commit, and what is to be seen waits for the other two only.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition

from stream.faults import stage
from stream.kafka.sending import Records, all_of, nothing, send_records
from stream.partition.commit import OneProducer
from stream.pipeline.outbox import Outbox


class ExactlyOnce(OneProducer):
    """One Kafka transaction per outbox: changelog, outputs and the source offset, or nothing."""

    def __init__(
        self, client_options: dict[str, Any], *, app_id: str, source: TopicPartition, changelog: str
    ) -> None:
        """See `OneProducer`."""
        super().__init__(client_options, app_id=app_id, source=source, changelog=changelog)
        self._usual = {changelog}
        self._opening: asyncio.Task[None] | None = None

    def expect(self) -> None:
        """Open the transaction of the next commit; see `Committer.expect`."""
        if self.producer is not None and self._opening is None:
            self._opening = asyncio.create_task(self._open(self.producer))

    async def started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """See `OneProducer.started`."""
        return await self.transactional(started)

    async def make_durable(self, producer: AIOKafkaProducer, outbox: Outbox, place: str) -> int:
        """See `OneProducer.make_durable`."""
        self.expect()
        opening, self._opening = self._opening, None
        if opening is not None:
            await opening
        topics: dict[str, Records] = {self.changelog: outbox.changelog, **outbox.outputs}
        self._usual = {topic for topic, records in topics.items() if records}
        partition = self.source.partition
        sending = [
            send_records(producer, topic, partition, records) for topic, records in topics.items()
        ]
        if outbox.next_offset is not None:
            offsets = {self.source: outbox.next_offset}
            sending.append(nothing(producer.send_offsets_to_transaction(offsets, self.group)))
        last_offset, *_ = await all_of(sending)
        stage(place)
        await producer.commit_transaction()
        return last_offset

    def confirmation(self, offset: int) -> Outbox:
        """See `OneProducer.confirmation`."""
        return Outbox({}, [], [], offset, 0)

    async def close(self) -> None:
        """Leave an open transaction to the successor; see `Committer.close`."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        await super().close()

    async def _open(self, producer: AIOKafkaProducer) -> None:
        """Begin, and add the group and the partitions that the last transaction wrote to.

        aiokafka itself adds them when it comes upon the first record or offset.
        """
        await producer.begin_transaction()
        for topic in self._usual:
            producer._txn_manager.maybe_add_partition_to_txn(  # noqa: SLF001
                TopicPartition(topic, self.source.partition)
            )
        while not await producer._sender._do_add_offsets_to_txn(self.group):  # noqa: SLF001
            pass  # it has waited before it says so
