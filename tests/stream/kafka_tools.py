"""Small clients for tests against the real broker."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.kafka.clients import stop_consumer
from tests.patience import PATIENCE_S


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


async def create_topics(bootstrap: str, *names: str, partitions: int = 1, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topics = [
            NewTopic(
                name,
                partitions,
                1,
                topic_configs={k.replace("_", "."): v for k, v in configs.items()},
            )
            for name in names
        ]
        response = await admin.create_topics(topics)
        assert all(code == 0 for _, code, *_ in response.topic_errors), response
    finally:
        await admin.close()


async def produce(
    bootstrap: str, topic: str, records: Iterable[tuple[bytes, bytes]], partition: int = 0
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=500_000)
    await producer.start()
    try:
        batch = producer.create_batch()
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                await (await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        if batch.record_count():
            await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


@asynccontextmanager
async def consuming(
    bootstrap: str, tp: TopicPartition, at: int = 0, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that is assigned a partition, without a group, from an offset on."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        **options,
    )
    await consumer.start()
    try:
        consumer.assign([tp])
        consumer.seek(tp, at)
        yield consumer
    finally:
        await stop_consumer(consumer)


async def end_offsets(bootstrap: str, topic: str) -> dict[TopicPartition, int]:
    """High waters. Not those of a read_committed consumer: a commit returns before its markers
    are written, so that one would miss the last transaction for a moment."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        return await consumer.end_offsets(consumer.assignment())
    finally:
        await consumer.stop()


async def read_all(
    bootstrap: str, topic: str, *, isolation: str = "read_committed"
) -> list[ConsumerRecord]:
    """Everything in the topic up to its end now, in order per partition."""
    ends = await end_offsets(bootstrap, topic)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        fetch_max_wait_ms=50,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        records: list[ConsumerRecord] = []
        async with asyncio.timeout(PATIENCE_S):
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for chunk in (await consumer.getmany(timeout_ms=200)).values():
                    records.extend(chunk)
        return records
    finally:
        await consumer.stop()


async def committed(bootstrap: str, group: str, tp: TopicPartition) -> int | None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([tp])
        return await consumer.committed(tp)
    finally:
        await consumer.stop()
