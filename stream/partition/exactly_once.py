"""Exactly once: one Kafka transaction per commit."""

from aiokafka import AIOKafkaProducer

from stream.faults import stage
from stream.kafka.sending import all_of, nothing, send_records
from stream.partition.commit import OneProducer
from stream.pipeline.outbox import Outbox


class ExactlyOnce(OneProducer):
    """One Kafka transaction per outbox: changelog, outputs and the source offset, or nothing."""

    async def started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """See `OneProducer.started`."""
        return await self.transactional(started)

    async def make_durable(self, producer: AIOKafkaProducer, outbox: Outbox, place: str) -> int:
        """See `OneProducer.make_durable`."""
        await producer.begin_transaction()
        partition = self.source.partition
        sending = [
            send_records(producer, self.changelog, partition, outbox.changelog),
            *(
                send_records(producer, topic, partition, records)
                for topic, records in outbox.outputs.items()
            ),
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
