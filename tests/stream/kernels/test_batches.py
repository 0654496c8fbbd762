"""The kernel that finds records in Kafka's batches, against aiokafka, which reads each."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from stream.kernels.batches import Places, find_records
from stream.pipeline.records import Records

ATTRIBUTES_AT, LOG_APPEND_TIME = 21, 8
parts = st.one_of(st.none(), st.binary(max_size=4), st.binary(min_size=120, max_size=150))
records = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 2**41),
        parts,
        parts,
        st.lists(st.tuples(st.text(max_size=3), st.one_of(st.none(), st.binary())), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


def batch(base: int, rows, attributes: int = 0) -> bytes:
    """Offsets have gaps, as compaction leaves them."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    delta = 0
    for gap, timestamp, key, value, headers in rows:
        assert builder.append(delta, timestamp, key, value, headers) is not None
        delta += 1 + gap
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, base)
    made[ATTRIBUTES_AT + 1] |= attributes
    return bytes(made)


def found_in(batches: list[bytes], first_offset: int = 0) -> Records:
    data = b"".join(batches)
    ends = np.cumsum([len(each) for each in batches])
    places = Places.empty(100)
    begins = ends - [len(each) for each in batches]
    count = find_records(np.frombuffer(data, np.uint8), begins, ends, first_offset, places)
    assert count >= 0
    return Records(data, places.first(count))


@pytest.mark.slow
@given(records, records, st.sampled_from([0, LOG_APPEND_TIME]), st.integers(0, 20_000))
def test_what_aiokafka_reads(first, second, attributes, start):
    batches = [batch(5, first, attributes), batch(10_000, second, attributes)]
    read = [
        (row.offset, row.timestamp, row.key, row.value)
        for each in batches
        for row in DefaultRecordBatch(each)
        if row.offset >= start
    ]
    assert [tuple(row) for row in found_in(batches, start)] == read


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_batch_that_ends_too_early_is_named(cut):
    whole = batch(0, [(0, 1, b"key", b"value", [])])
    broken = batch(9, [(0, 1, b"key", b"value", [])])[:-cut]
    data = np.frombuffer(whole + broken, np.uint8)
    begins, ends = np.array([0, len(whole)]), np.array([len(whole), len(data)])
    assert find_records(data, begins, ends, 0, Places.empty(2)) == -2


@given(st.binary(min_size=1, max_size=40), st.integers(0, 30))
def test_no_byte_leads_it_astray(noise, at):
    made = bytearray(batch(0, [(0, 1, b"key", b"value", []), (0, 1, None, b"v", [])]))
    made[61 + at : 61 + at + len(noise)] = noise
    data, places = np.frombuffer(bytes(made), np.uint8), Places.empty(2)
    count = find_records(data, np.array([0]), np.array([len(data)]), 0, places)
    assert -1 <= count <= 2
    for ends in (places.key_ends, places.value_ends):
        assert (ends[: max(count, 0)] <= len(data)).all()
