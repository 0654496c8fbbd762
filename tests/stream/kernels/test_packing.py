"""Sizes that are measured are those that are written, and those of aiokafka."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from stream.kernels.batches import ABSENT, COUNT_END
from stream.kernels.packing import _put_varint, _varint_size, measure_batch, write_records

pytestmark = pytest.mark.slow

BORDERS = [2**bits + more for bits in (6, 7, 13, 14, 20, 21, 27, 30) for more in (-1, 0, 1)]


@pytest.mark.parametrize("number", [0, 1, -1, *BORDERS])
def test_a_varint_takes_what_is_measured(number: int) -> None:
    out = np.zeros(10, np.uint8)
    end = _put_varint(number, out, 0)
    assert end == _varint_size(number)
    value = sum((byte & 127) << (7 * i) for i, byte in enumerate(out[:end].tolist()))
    assert (value >> 1) ^ -(value & 1) == number
    assert all(byte & 128 for byte in out[: end - 1].tolist())
    assert out[end - 1] < 128


@pytest.mark.parametrize("key_size", [ABSENT, 0, 1, 63, 64, 200])
@pytest.mark.parametrize("value_size", [ABSENT, 0, 63, 64, 8191, 8192])
def test_a_record_has_aiokafkas_size(key_size: int, value_size: int) -> None:
    sizes = np.array([key_size], np.int64), np.array([value_size], np.int64)
    count, size = measure_batch(*sizes, 0, 0)
    key, value = (None if n == ABSENT else bytes(n) for n in (key_size, value_size))
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    assert (count, size) == (1, COUNT_END + builder.size_in_bytes(0, 5, key, value, []))
    keys, values = (np.zeros(max(n, 0), np.uint8) for n in (key_size, value_size))
    out = np.empty(size, np.uint8)
    ends = write_records(keys, sizes[0], 0, values, sizes[1], 0, 0, 1, 0, out, COUNT_END)
    assert ends == (size, max(key_size, 0), max(value_size, 0))
