"""A fenced producer's errors, of which each is somebody's, are not reported by the collector."""

import asyncio
import gc
import logging

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream.kafka.unheard import hear_out, heard
from tests.stream.kafka_tools import create_topics, unique

pytestmark = pytest.mark.kafka
DELIVERIES = 20


async def fenced(kafka, topic, failed=lambda _producer: None):
    """Send in a transaction that another producer of the same id has taken over; nobody waits."""
    options = {"bootstrap_servers": kafka.bootstrap_servers, "transactional_id": unique("id")}
    async with AIOKafkaProducer(**options) as old:
        await old.begin_transaction()
        async with AIOKafkaProducer(**options):
            sent = [await old.send(topic, b"x", partition=n % 2) for n in range(DELIVERIES)]
            batch = old.create_batch()
            batch.append(key=b"k", value=b"v", timestamp=None)
            with pytest.raises(KafkaError):
                await sent[0]
            failed(old)
    return old, sent


def reported(caplog):
    gc.collect()
    return [record for record in caplog.records if "never retrieved" in record.message]


async def test_what_nobody_looked_at_is_reported_and_what_is_heard_out_is_not(kafka, caplog):
    caplog.set_level(logging.ERROR, "asyncio")
    topic = unique("topic")
    await create_topics(kafka.bootstrap_servers, topic, partitions=2)

    old, sent = await fenced(kafka, topic)
    del old, sent
    # What this module is for; when it is empty, aiokafka has mended it and the module can go.
    assert len(reported(caplog)) > DELIVERIES

    caplog.clear()
    old, sent = await fenced(kafka, topic, hear_out)
    for delivery in sent:
        heard(delivery)
    hear_out(old)
    await asyncio.sleep(0)  # callbacks of what is done already run in the next round
    del old, sent, delivery
    assert reported(caplog) == []
