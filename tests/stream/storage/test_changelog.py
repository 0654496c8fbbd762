"""What is taken from fetched batches, and that damage, gaps and aborted transactions do no harm.

The batches are made here byte by byte, so that each gap and each damage is where it must be;
`test_recovery.py` reads real ones from a broker.
"""

from __future__ import annotations

import struct

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from stream.errors import LogUnreadable
from stream.kafka.batches import WholeRecords
from stream.kafka.responses import Response
from stream.pipeline.records import Records as Found
from stream.storage import recovery

TP = TopicPartition("app.users.changelog", 0)
ABORT, COMMIT = 0, 1
CRC_AT, ATTRIBUTES_AT = 17, 21
CONTROL = 0x20
Records = dict[int, tuple[bytes, bytes | None]]


def batch(base: int, records: Records, producer: int | None = None) -> bytearray:
    """A batch of {offset: (key, value)}, transactional if it has a producer."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0 if producer is None else 1,
        producer_id=-1 if producer is None else producer,
        producer_epoch=-1 if producer is None else 0,
        base_sequence=-1 if producer is None else 0,
        batch_size=1 << 20,
    )
    for offset, (key, value) in records.items():
        assert builder.append(offset - base, 1, key, value, []) is not None
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, base)
    return made


def marker(offset: int, producer: int, kind: int) -> bytearray:
    """The end of a transaction."""
    made = batch(offset, {offset: (struct.pack(">hh", 0, kind), b"\0" * 6)}, producer)
    (attributes,) = struct.unpack_from(">h", made, ATTRIBUTES_AT)
    struct.pack_into(">h", made, ATTRIBUTES_AT, attributes | CONTROL)
    struct.pack_into(">I", made, CRC_AT, calc_crc32c(bytes(made[ATTRIBUTES_AT:])))
    return made


def fetched(
    *content: bytearray, start: int = 0, aborted: list[tuple[int, int]] | None = None
) -> Response:
    """What a fetch from `start` brings; `aborted`: (producer, first offset) as the broker says."""
    memory = WholeRecords(b"".join(map(bytes, content)))
    batches = []
    while memory.has_next():
        batches.append(memory.next_batch())
    parts = PartitionRecords(TP, memory, aborted, start, None, None, True, READ_COMMITTED)
    return Response(TP, batches, memory.data, start, batches[-1].next_offset, parts)


def newest_values(response: Response) -> tuple[dict[bytes, bytes | None], int]:
    """The state of a response, and how many records it holds."""
    records = Found.together([part.records for part in response.parts()])
    return recovery.newest_values(records), len(records)


def test_the_last_value_of_each_key_counts_and_tombstones_stay():
    first = batch(0, {0: (b"ua", b"1"), 1: (b"ub", b"2"), 2: (b"m", b"one")})
    second = batch(3, {3: (b"ua", b"3"), 4: (b"ub", None), 5: (b"m", b"two")})
    assert newest_values(fetched(first, second)) == (
        {b"ua": b"3", b"ub": None, b"m": b"two"},
        6,
    )


def test_what_is_no_state_is_counted_and_left_out():
    records: Records = {0: (b"f", b"fence"), 1: (b"", b"?"), 2: (b"ua", b"1"), 3: (b"\x00x", b"")}
    assert newest_values(fetched(batch(0, records))) == ({b"ua": b"1"}, 4)


def test_aborted_transactions_between_committed_ones_leave_nothing():
    """Two producers, the second one's batches before, in and behind the first one's abort."""
    found = fetched(
        batch(0, {0: (b"ua", b"0")}, producer=1),
        marker(1, 1, COMMIT),
        batch(2, {2: (b"ua", b"aborted"), 3: (b"ub", b"aborted")}, producer=1),
        batch(4, {4: (b"uc", b"4")}, producer=2),
        batch(5, {5: (b"ub", b"aborted")}, producer=1),
        marker(6, 1, ABORT),
        marker(7, 2, COMMIT),
        batch(8, {8: (b"ub", b"8")}, producer=1),
        marker(9, 1, COMMIT),
        aborted=[(1, 2)],
    )
    assert newest_values(found) == ({b"ua": b"0", b"uc": b"4", b"ub": b"8"}, 3)
    assert found.end == 10


def test_two_aborted_transactions_of_one_producer():
    found = fetched(
        batch(0, {0: (b"ua", b"aborted")}, producer=1),
        marker(1, 1, ABORT),
        batch(2, {2: (b"ua", b"kept")}, producer=1),
        marker(3, 1, COMMIT),
        batch(4, {4: (b"ua", b"aborted")}, producer=1),
        marker(5, 1, ABORT),
        aborted=[(1, 4), (1, 0)],
    )
    assert newest_values(found) == ({b"ua": b"kept"}, 1)


def test_a_marker_of_a_transaction_that_compaction_emptied_is_passed_over():
    found = fetched(marker(7, 1, ABORT), batch(8, {8: (b"ua", b"8")}, producer=1), start=3)
    assert newest_values(found) == ({b"ua": b"8"}, 1)


@pytest.mark.parametrize("start", range(4, 9))
def test_a_start_in_the_middle_of_a_batch_skips_what_was_read(start):
    """The broker sends whole batches; between 5 and 7 compaction took a record."""
    records: Records = {4: (b"ua", b"4"), 5: (b"ub", b"5"), 7: (b"ua", b"7"), 8: (b"uc", b"8")}
    want = {key: value for offset, (key, value) in records.items() if offset >= start}
    found = fetched(batch(4, records), start=start)
    assert newest_values(found) == (want, sum(offset >= start for offset in records))
    assert found.end == 9


def test_gaps_of_compaction_between_and_in_batches_do_no_harm():
    found = fetched(
        batch(3, {5: (b"ua", b"5"), 40: (b"ub", b"40")}),
        batch(900, {900: (b"ua", b"900"), 2_000_000: (b"uc", b"last")}),
        start=1,
    )
    assert newest_values(found) == ({b"ua": b"900", b"ub": b"40", b"uc": b"last"}, 4)
    assert found.end == 2_000_001


@pytest.mark.parametrize("what", ["value", "attributes", "crc"])
def test_a_damaged_batch_is_named_and_nothing_is_made_of_it(what):
    whole = batch(0, {0: (b"ua", b"1")})
    damaged = batch(10, {10: (b"ub", b"the very value")})
    place = {"value": len(damaged) - 3, "attributes": ATTRIBUTES_AT + 1, "crc": CRC_AT}[what]
    damaged[place] ^= 0x40
    with pytest.raises(LogUnreadable, match="records from offset 10 are damaged"):
        newest_values(fetched(whole, damaged))


def test_damage_in_what_was_aborted_is_damage_all_the_same():
    damaged = batch(0, {0: (b"ua", b"aborted")}, producer=1)
    damaged[-3] ^= 1
    with pytest.raises(LogUnreadable):
        newest_values(fetched(damaged, marker(1, 1, ABORT), aborted=[(1, 0)]))
