"""Compressed batches, made by aiokafka's builder; `test_compression.py` has those of a broker."""

import struct
from collections.abc import Iterator

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from stream.errors import LogUnreadable
from stream.kafka.batches import NamingRecords, WholeRecords
from stream.kafka.decompressing import NAMES, CodecError, plain_batch
from stream.kafka.responses import PART_BYTES, Response

TP = TopicPartition("shop.events", 3)
HEAD_END, ATTRIBUTES_AT = 61, 21


def batch(codec: int, values: list[bytes], base: int = 0, magic: int = 2) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=magic,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for place, value in enumerate(values):
        assert builder.append(place, 1000 + place, b"key", value, []) is not None
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, base)
    return bytes(made)


def changed(made: bytes, *, codec: int | None = None, records: bytes | None = None) -> bytes:
    """The batch with another codec in its head, or with other bytes; the checksum is right."""
    made = made if records is None else made[:HEAD_END] + records
    whole = bytearray(made)
    struct.pack_into(">i", whole, 8, len(whole) - 12)
    if codec is not None:
        struct.pack_into(">h", whole, ATTRIBUTES_AT, codec)
    struct.pack_into(">I", whole, 17, crc32c(bytes(whole[ATTRIBUTES_AT:])))
    return bytes(whole)


def response(*batches: bytes, start: int = 0) -> Response:
    memory, found = WholeRecords(b"".join(batches)), []
    while memory.has_next():
        found.append(memory.next_batch())
    return Response(TP, found, memory.data, start, found[-1].next_offset, records_of(*batches))


def records_of(*batches: bytes) -> NamingRecords:
    data = WholeRecords(b"".join(batches))
    return NamingRecords(TP, data, None, 0, None, None, True, READ_COMMITTED)


def values(found: Response) -> Iterator[bytes | None]:
    for part in found.parts():
        for row in part.records:
            yield row.value


@pytest.mark.parametrize("codec", NAMES)
def test_a_plain_batch_is_what_aiokafka_reads_of_it(codec: int) -> None:
    made = batch(codec, [b"%d" % n * 20 for n in range(3000)], base=7)
    plain = plain_batch(memoryview(made))

    assert len(plain) > len(made)
    ours, theirs = (MemoryRecords(data).next_batch() for data in (plain, made))
    assert not ours.compression_type
    assert ours.validate_crc()
    assert [(r.offset, r.timestamp, r.key, r.value) for r in ours] == [
        (r.offset, r.timestamp, r.key, r.value) for r in theirs
    ]


def test_both_framings_of_snappy_are_read() -> None:
    """Java and aiokafka write blocks (xerial), librdkafka one raw block."""
    plain = plain_batch(memoryview(batch(2, [b"a" * 90_000])))
    raw = changed(plain, codec=2, records=bytes(cramjam.snappy.compress_raw(plain[HEAD_END:])))
    assert plain_batch(memoryview(raw)) == plain


@pytest.mark.parametrize("codec", NAMES)
def test_a_batch_that_holds_more_than_the_bound_is_refused(codec: int) -> None:
    made = batch(codec, [b"a" * 1_000_000])
    assert len(made) < 100_000
    with pytest.raises(CodecError, match=f"{NAMES[codec]} data"):
        plain_batch(memoryview(made), largest=900_000)


@pytest.mark.parametrize("codec", NAMES)
def test_damaged_data_names_topic_partition_offset_and_codec(codec: int) -> None:
    made = batch(codec, [b"abc%d" % n for n in range(200)], base=500)
    cut = changed(made, records=made[HEAD_END : len(made) - 9])
    place = f"shop.events-3: records from offset 500 cannot be decompressed: {NAMES[codec]}"
    with pytest.raises(LogUnreadable, match=place):
        list(response(cut).parts())
    with pytest.raises(LogUnreadable, match=place.replace("500", "0")):
        list(records_of(cut))


@pytest.mark.slow
@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_codec_is_named_to_both_readers(codec: int) -> None:
    strange = changed(batch(0, [b"a"], base=1), codec=codec)
    first = batch(0, [b"a"])
    with pytest.raises(LogUnreadable, match=f"from offset 1 .* codec {codec} is none of gzip"):
        list(response(first, strange).parts())
    reading = records_of(first, strange)
    assert next(reading).offset == 0
    with pytest.raises(LogUnreadable, match=rf"events-3: records from offset 1 .* codec {codec}"):
        next(reading)


@pytest.mark.slow
def test_mixed_batches_are_read_in_order_from_the_middle() -> None:
    batches = [
        batch(codec, [b"%d-%d" % (place, n) * 9 for n in range(10)], base=place * 10, magic=magic)
        for place, (codec, magic) in enumerate(
            [(0, 2), (1, 2), (4, 2), (0, 2), (3, 2), (2, 2), (0, 2)]
        )
    ]
    found = response(*batches, start=13)
    assert list(values(found)) == [
        b"%d-%d" % (place, n) * 9 for place in range(7) for n in range(10) if place * 10 + n >= 13
    ]
    assert [row.offset for row in records_of(*batches)] == list(range(70))


def test_decompressed_records_come_in_parts_of_bounded_size() -> None:
    """200 small batches of 1 MiB each: no more than a part of them is in memory at a time."""
    large = [b"a" * (1 << 20)]
    found = response(*(batch(4, large, base=n) for n in range(40)))
    assert len(found.data) < PART_BYTES

    sizes, ends = [], []
    for part in found.parts():
        sizes.append(len(part.records.data))
        ends.append(part.end)
    assert max(sizes) <= PART_BYTES + 2 * len(large[0])
    assert ends == [*range(4, 40, 4), 40]
