"""Topics that a broker compresses (in Java), read by every kind of reader."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from stream.kafka.decompressing import NAMES
from stream.kafka.fetching import Fetching
from stream.kafka.responses import take_response, wait_for_response
from stream.kafka.tail import open_tail
from stream.learning.logreader import KafkaLog
from tests.conftest import Kafka
from tests.patience import PATIENCE_S
from tests.stream.kafka.test_fetching import fetched
from tests.stream.kafka_tools import consuming, create_topics, produce, unique
from tests.stream.training_tools import settings_for

pytestmark = pytest.mark.kafka
CODES = {name: code for code, name in NAMES.items()}


@pytest.mark.parametrize("codec", CODES)
async def test_every_reader_reads_what_the_broker_compressed(
    kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]], codec: str
) -> None:
    """The worker's fetches, the trainer's log, and the tail of status, watch, outcomes and dlq."""
    servers, topic = kafka.bootstrap_servers, unique("events")
    await create_topics(servers, topic, compression_type=codec)
    await create_topics(servers, f"{topic}-erase")
    await produce(servers, topic, shop[:400])
    # A client's own compression, and a transaction.
    async with (
        AIOKafkaProducer(
            bootstrap_servers=servers, transactional_id=unique("tx"), compression_type=codec
        ) as producer,
        producer.transaction(),
    ):
        await asyncio.gather(
            *[await producer.send(topic, value, key, 0) for key, value in shop[400:500]]
        )
    settings, tp = settings_for(tmp_path, kafka, topic), TopicPartition(topic, 0)

    async with consuming(servers, tp) as consumer:
        await wait_for_response(consumer, PATIENCE_S)
        response = take_response(consumer, tp)
        assert response is not None
        assert {batch.compression_type for batch in response.batches[:1]} == {CODES[codec]}

    async with consuming(servers, tp) as consumer:
        batches = await fetched(Fetching(consumer), tp, 500, limit=150)
    rows = [row for batch in batches for row in batch.records]
    assert [(row.key, row.value) for row in rows] == shop[:500]
    assert max(len(batch.records) for batch in batches) <= 150

    async with open_tail(settings, [topic], from_beginning=True) as tail:
        seen = [record async for records in tail.read_to_end(30) for record in records]
    assert [(row.key, row.value) for row in seen] == shop[:500]

    log = KafkaLog(settings)
    assert len(await log.read()) == 500
    assert log.refused == {}
