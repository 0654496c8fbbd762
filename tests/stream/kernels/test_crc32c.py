"""The checksum by the processor's instruction, against aiokafka's tables."""

from __future__ import annotations

import random

import numpy as np
import pytest
from aiokafka.record.util import calc_crc32c
from numba import config

from stream.kernels import crc32c as checksums

needs_instruction = pytest.mark.skipif(
    not checksums._has_instruction(), reason="the processor has no such instruction"
)


def of(data: bytes) -> int:
    return checksums.by_instruction(np.frombuffer(bytearray(data or b"\0"), np.uint8)[: len(data)])


@needs_instruction
def test_the_check_value_of_the_polynomial() -> None:
    assert of(b"123456789") == 0xE3069283


@needs_instruction
@pytest.mark.parametrize("size", [*range(40), 1000, 65_537])
def test_it_is_that_of_the_tables(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert of(data) == calc_crc32c(data)


def test_what_is_used_takes_arrays_anywhere_in_memory() -> None:
    data = random.Random(1).randbytes(100)
    for begin in range(9):
        found = checksums.crc32c(np.frombuffer(bytearray(data), np.uint8)[begin:])
        assert found == calc_crc32c(data[begin:])


def test_without_the_instruction_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CPU_FEATURES", "+sse4.1,-sse4.2")
    assert not checksums._has_instruction()
    monkeypatch.setattr(config, "CPU_FEATURES", "+sse4.1,+sse4.2")
    assert checksums._has_instruction()
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    monkeypatch.setattr(checksums.llvm, "get_host_cpu_features", dict)
    assert not checksums._has_instruction()
