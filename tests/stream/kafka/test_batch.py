"""Our batches are those of aiokafka's builder, bit by bit."""

from __future__ import annotations

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.kafka.batch import Batch, batches_of
from stream.pipeline.packed import Message, Packed

NOW = 1_700_000_000_000
Producer = tuple[int, int, int]

texts = st.one_of(st.none(), st.binary(max_size=4), st.binary(min_size=60, max_size=70))
long_ones = st.integers(8150, 8250).map(lambda size: b"x" * size)
messages = st.lists(st.tuples(texts, st.one_of(texts, long_ones)), max_size=90)
producers = st.one_of(
    st.none(),
    st.tuples(st.integers(-1, 2**63 - 1), st.integers(-1, 2**15 - 1), st.integers(0, 2**31 - 1)),
)


def packed(parts: list[list[Message]]) -> list[Packed]:
    return [Packed.of(part) for part in parts]


def theirs(
    records: list[Message], limit: int, *, transactional: bool, producer: Producer | None
) -> list[bytes]:
    made = []
    while records:
        batch = BatchBuilder(limit, 0, is_transactional=transactional)
        for key, value in records:
            if batch.append(timestamp=NOW, key=key, value=value) is None:
                break
        records = records[batch.record_count() :]
        if producer is not None:
            batch._set_producer_state(*producer)
        made.append(bytes(batch._build()))
    return made


@pytest.mark.slow
@settings(max_examples=300, deadline=None, database=None)
@given(
    st.lists(messages, max_size=4),
    st.one_of(st.integers(0, 3000), st.just(900_000)),
    st.booleans(),
    producers,
)
def test_the_bits_are_aiokafkas(
    parts: list[list[Message]],
    limit: int,
    transactional: bool,  # noqa: FBT001  # drawn
    producer: Producer | None,
) -> None:
    records = [message for part in parts for message in part]
    ours = []
    for batch in batches_of(packed(parts), NOW, limit, transactional=transactional):
        if producer is not None:
            batch._set_producer_state(*producer)
        ours.append(bytes(batch._build()))
        assert batch.size() == len(ours[-1])
    assert ours == theirs(records, limit, transactional=transactional, producer=producer)


def read(data: bytes) -> list[tuple[int, int, bytes | None, bytes | None]]:
    found, memory = [], MemoryRecords(data)
    while memory.has_next():
        batch = memory.next_batch()
        assert batch.validate_crc()
        found += [(r.offset, r.timestamp, r.key, r.value) for r in batch]
    return found


@pytest.mark.slow
def test_aiokafka_reads_what_was_put_in() -> None:
    records = [(b"k%d" % n, b"v" * n) for n in range(300)] + [(None, b"v"), (b"k", None)]
    (batch,) = batches_of(packed([records]), NOW, 900_000, transactional=True)
    assert read(bytes(batch._build())) == [(n, NOW, *pair) for n, pair in enumerate(records)]
    assert batch.record_count() == len(records)


async def test_aiokafkas_wrapper_finds_all_that_it_asks_for() -> None:
    (batch,) = batches_of(packed([[(b"k", b"v")]]), NOW, 900_000, transactional=False)
    message = MessageBatch(TopicPartition("t", 0), batch, ttl=9, linger_time=0)
    assert message.record_count == 1
    assert not message.is_empty()
    assert message.remaining_linger() is None
    batch.close()
    assert batch.closed()
    message.set_producer_state(7, 1, 5)
    sent = bytes(message.get_data_buffer())
    assert sent == theirs([(b"k", b"v")], 900_000, transactional=False, producer=(7, 1, 5))[0]
    message.drain_ready()
    message.reset_drain()
    assert message.get_data_buffer() == sent  # sent again
    message.done(3)
    assert (await message.future).offset == 3


@pytest.mark.parametrize("parts", [[], [[]], [[], []]])
def test_nothing_makes_no_batch(parts: list[list[Message]]) -> None:
    assert list(batches_of(packed(parts), NOW, 900_000, transactional=False)) == []


def test_one_that_is_too_large_is_alone() -> None:
    records = [(b"k", bytes(size)) for size in (10, 2000, 10)]
    made: list[Batch] = list(batches_of(packed([records]), NOW, 1000, transactional=False))
    assert [batch.record_count() for batch in made] == [1, 1, 1]
    assert made[1].size() > 2000
