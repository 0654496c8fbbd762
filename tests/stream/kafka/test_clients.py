"""Clients end whatever their cluster does, and what ends them cancels nobody else."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import NodeNotReadyError, ProducerFenced

from stream.kafka.clients import stop_consumer, stop_producer
from tests.stream.kafka_tools import create_topics, unique

pytestmark = pytest.mark.kafka


@pytest.fixture
async def topic(kafka):
    name = unique("topic")
    await create_topics(kafka.bootstrap_servers, name, partitions=1)
    return name


async def not_ready(_client, node, _request, **_):
    raise NodeNotReadyError(f"node {node}")


async def between_two_tries(kafka, topic, monkeypatch):
    """A consumer whose fetch has just failed: it waits before it tries again."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, retry_backoff_ms=5_000)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.seek_to_beginning()
    monkeypatch.setattr(AIOKafkaClient, "send", not_ready)
    await consumer.getmany(timeout_ms=1_000)
    return consumer


async def test_a_consumer_that_waits_for_its_next_try_stops(kafka, topic, monkeypatch):
    consumer = await between_two_tries(kafka, topic, monkeypatch)
    await stop_consumer(consumer)
    assert consumer._client._sync_task is None  # its client is closed too
    await stop_consumer(consumer)


async def test_aiokafka_lets_a_cancellation_out(kafka, topic, monkeypatch):
    """What `end_fetches` is for; when this fails, aiokafka has mended it and it can go."""
    consumer = await between_two_tries(kafka, topic, monkeypatch)
    with pytest.raises(asyncio.CancelledError):
        await consumer.stop()
    await consumer._client.close()


async def test_a_consumer_that_never_started_stops():
    await stop_consumer(AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1"))


async def test_a_producer_whose_stop_is_cancelled_within_cancels_nobody(kafka, monkeypatch):
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()

    async def stop():
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(producer, "stop", stop)
        await stop_producer(producer)
    await stop_producer(producer)


@pytest.mark.parametrize("why", [ProducerFenced(), AssertionError(), asyncio.CancelledError()])
async def test_a_producer_whose_stop_fails_closes_its_connections(kafka, topic, monkeypatch, why):
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    await producer.send_and_wait(topic, b"x")

    async def close():
        raise why

    sender = producer._sender
    monkeypatch.setattr(
        producer, "_sender", SimpleNamespace(sender_task=sender.sender_task, close=close)
    )
    await stop_producer(producer)
    assert not any(connection.connected() for connection in producer.client._conns.values())
    await sender.close()


async def test_who_stops_a_client_can_be_cancelled(kafka, monkeypatch):
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    with monkeypatch.context() as patch:
        patch.setattr(producer, "stop", asyncio.Event().wait)
        stopping = asyncio.create_task(stop_producer(producer))
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
    await stop_producer(producer)
