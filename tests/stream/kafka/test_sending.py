import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, ProducerFenced

from stream.errors import CommitError
from stream.kafka.sending import MAX_BATCH_BYTES, all_of, nothing, reason_of, send_records
from stream.kernels.buffers import joined
from stream.pipeline.packed import Messages, Packed
from tests.stream.kafka_tools import create_topics, read_all, unique

pytestmark = pytest.mark.kafka


@pytest.fixture
async def topic(kafka):
    name = unique("sent")
    await create_topics(kafka.bootstrap_servers, name)
    return name


@pytest.fixture
async def producer(kafka):
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_BATCH_BYTES,
    ) as made:
        yield made


async def test_records_arrive_as_they_are_in_as_many_batches_as_they_need(kafka, producer, topic):
    records = [(b"k%d" % n, bytes([n % 251]) * 10_000) for n in range(200)]
    records[3:5] = [(None, b"no key"), (b"tombstone", None)]

    assert await send_records(producer, topic, 0, records) == 199
    assert await send_records(producer, topic, 0, []) == -1

    found = await read_all(kafka.bootstrap_servers, topic)
    assert [(record.key, record.value) for record in found] == records
    assert [record.offset for record in found] == list(range(200))
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers) as consumer:
        assert await consumer.end_offsets([TopicPartition(topic, 0)]) == {
            TopicPartition(topic, 0): 200
        }


def columns(pairs):
    """As kernels hand them over."""
    keys, values = zip(*pairs, strict=True)
    return Packed.of_ends(*joined(keys), *joined(values))


async def test_columns_and_pairs_arrive_in_their_order(kafka, topic):
    """In transactions, of which the second is not committed."""
    pairs = [(b"k%d" % n, b"%d" % n * 400) for n in range(3000)]
    records = Messages()
    for lo in range(0, 3000, 600):
        records.extend(columns(pairs[lo : lo + 500]))
        records.extend(pairs[lo + 500 : lo + 600])
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique("id")
    ) as producer:
        await producer.begin_transaction()
        assert await send_records(producer, topic, 0, records) == 2999
        await producer.commit_transaction()
        await producer.begin_transaction()
        assert await send_records(producer, topic, 0, [(b"k", b"dropped")]) == 3001
        await producer.abort_transaction()
        await producer.begin_transaction()
        assert await send_records(producer, topic, 0, [(b"k", b"last")]) == 3003
        await producer.commit_transaction()

    found = await read_all(kafka.bootstrap_servers, topic)
    assert [(record.key, record.value) for record in found] == [*pairs, (b"k", b"last")]


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_record_larger_than_a_batch_is_sent_alone(kafka, idempotent):
    name = unique("large")
    await create_topics(kafka.bootstrap_servers, name, max_message_bytes="2000000")
    records = [(b"k", bytes(size)) for size in (10, MAX_BATCH_BYTES + 10, 20)]
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        enable_idempotence=idempotent,
        max_request_size=MAX_BATCH_BYTES,
    ) as producer:
        assert await send_records(producer, name, 0, records) == 2
    found = await read_all(kafka.bootstrap_servers, name)
    assert [(record.key, record.value) for record in found] == records


async def test_the_first_error_is_raised_when_all_have_ended():
    ended = []

    async def fails():
        raise ValueError("first")

    async def ends():
        ended.append(True)
        return 5

    with pytest.raises(ValueError, match="first"):
        await all_of([fails(), ends()])
    assert ended
    assert await all_of([ends(), nothing(ends())]) == [5, -1]


async def test_a_step_after_the_fencing_has_the_fencing_as_its_reason(kafka, topic):
    name = unique("id")
    old, new = (
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=name)
        for _ in range(2)
    )
    async with old:
        await old.begin_transaction()
        own = IllegalOperation("of a producer that works")
        assert reason_of(old, own) is own
        async with new:
            with pytest.raises(ProducerFenced):
                await old.send_and_wait(topic, b"late")
            with pytest.raises(IllegalOperation) as refused:
                await old.send(topic, b"later")
    assert isinstance(reason_of(old, refused.value), ProducerFenced)


async def test_a_record_whose_place_is_not_told_is_no_commit(producer, topic, monkeypatch):
    send_batch = producer.send_batch

    async def forgotten(*of, **options):
        """As of a repeat, which a broker answers without an offset."""
        delivery = await send_batch(*of, **options)
        told = asyncio.get_running_loop().create_future()
        told.set_result((await delivery)._replace(offset=-1))
        return told

    monkeypatch.setattr(producer, "send_batch", forgotten)
    with pytest.raises(CommitError, match=rf"{topic}-0: .* does not tell where .* again"):
        await send_records(producer, topic, 0, [(b"k", b"v")])
