import asyncio
import gc
import weakref
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ConsumerStoppedError

from stream.errors import LogUnreadable
from stream.kafka.fetching import Fetching
from stream.kafka.responses import take_response, wait_for_response
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import consuming, produce, unique

pytestmark = pytest.mark.kafka


async def fetched(fetching, tp, until, limit=1000):
    """Every micro-batch up to an offset."""
    batches = []
    async with asyncio.timeout(PATIENCE_S):
        while not batches or batches[-1].end < until:
            batches += await fetching.fetch([tp], limit, 500)
    return batches


async def transaction(producer, tp, names, *, commit):
    await producer.begin_transaction()
    for name in names:
        await producer.send(tp.topic, name, partition=tp.partition)
    await (producer.commit_transaction() if commit else producer.abort_transaction())


async def test_aborted_transactions_and_markers_are_passed_over(kafka, tp):
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique("id")
    ) as producer:
        await transaction(producer, tp, [b"a", b"b"], commit=True)
        await transaction(producer, tp, [b"x", b"y"], commit=False)
        await produce(kafka.bootstrap_servers, tp.topic, [(b"k", b"c")])
        await transaction(producer, tp, [b"d"], commit=True)
        await transaction(producer, tp, [b"z"], commit=False)

    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        batches = await fetched(Fetching(consumer), tp, 11)

    rows = [row for batch in batches for row in batch.records]
    assert [(row.offset, row.value) for row in rows] == [(0, b"a"), (1, b"b"), (6, b"c"), (7, b"d")]
    assert [b.start for b in batches] == [0, *(b.end for b in batches[:-1])]


async def test_a_response_that_is_done_with_leaves_memory_at_once(kafka, tp):
    await produce(kafka.bootstrap_servers, tp.topic, [(b"k", b"a")] * 10)
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        await wait_for_response(consumer, PATIENCE_S)
        gc.collect()
        gc.disable()
        try:
            response = take_response(consumer, tp)
            held = weakref.ref(response.aborted)
            assert sum(len(part.records) for part in response.parts()) == 10
            del response
            assert held() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_parts_of_bounded_size_from_the_middle_of_a_batch(kafka, tp, compression):
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, linger_ms=100, compression_type=compression
    ) as producer:
        await asyncio.gather(
            *[await producer.send(tp.topic, b"%d" % n, b"key", 0, 1000 + n) for n in range(20)]
        )

    async with consuming(kafka.bootstrap_servers, tp, at=3) as consumer:
        batches = await fetched(Fetching(consumer), tp, 20, limit=7)

    assert [(b.start, b.end, len(b.records)) for b in batches] == [
        (3, 10, 7),
        (10, 17, 7),
        (17, 20, 3),
    ]
    rows = [row for batch in batches for row in batch.records]
    assert rows == [(n, 1000 + n, b"key", b"%d" % n) for n in range(3, 20)]


async def test_what_was_fetched_before_a_move_or_another_assignment_is_forgotten(kafka, tp):
    await produce(kafka.bootstrap_servers, tp.topic, [(b"k", b"%d" % n) for n in range(10)])
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        fetching = Fetching(consumer)
        assert [b.end for b in await fetched(fetching, tp, 4, limit=4)] == [4]

        fetching.moved(tp)
        consumer.seek(tp, 6)
        assert [b.start for b in await fetched(fetching, tp, 8, limit=2)] == [6]

        consumer.unsubscribe()
        consumer.assign([tp])
        consumer.seek(tp, 1)
        assert [b.start for b in await fetched(fetching, tp, 10, limit=9)] == [1]

    with pytest.raises(ConsumerStoppedError):
        await fetching.fetch([tp], 1, 0)


async def test_damage_is_noticed(kafka, tp):
    await produce(kafka.bootstrap_servers, tp.topic, [(b"k", b"v")])
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        await wait_for_response(consumer, 10)
        response = take_response(consumer, tp)
        assert take_response(consumer, tp) is None
    changed = response.data[:-1] + bytes([response.data[-1] ^ 1])

    with pytest.raises(LogUnreadable, match=rf"{tp.topic}-0: records from offset 0 are damaged"):
        list(replace(response, data=changed).parts())
    assert [len(part.records) for part in response.parts()] == [1]
