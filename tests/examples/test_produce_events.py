"""The example's events are valid, keyed by user, and lie where murmur2 puts them."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2

from schemas.codec import decode_event, validate_key
from tests.examples.support import new_topic, run

pytestmark = pytest.mark.kafka

PARTITIONS = 4
SIGN_BIT_OFF = 0x7FFFFFFF


async def test_events_are_valid_and_partitioned_by_murmur2(kafka):
    topic = await new_topic(kafka.bootstrap_servers, PARTITIONS)
    users = ["ada", "zoë", "user-3"]
    for user in users:
        done = run(
            "produce_events.py",
            "--bootstrap-servers",
            kafka.bootstrap_servers,
            "--topic",
            topic,
            "--user",
            user,
            "--sessions",
            "2",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"10 events of {user} are in {topic}\n"
    records = await read_all(kafka.bootstrap_servers, topic)
    events = [decode_event(record.value) for record in records]
    assert len({event.event_id for event in events}) == len(events) == 10 * len(users)
    for record, event in zip(records, events, strict=True):
        validate_key(record.key, event.user_id)
        assert record.partition == (murmur2(record.key) & SIGN_BIT_OFF) % PARTITIONS
    kinds = [type(event).__name__ for event in events if event.user_id == "zoë"]
    assert kinds == ["Search", "View", "View", "CartAdd", "Purchase"] * 2


async def read_all(bootstrap_servers: str, topic: str):
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        total = sum((await consumer.end_offsets(partitions)).values())
        return [await consumer.getone() for _ in range(total)]
    finally:
        await consumer.stop()
