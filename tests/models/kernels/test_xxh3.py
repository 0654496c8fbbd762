"""The kernel's hashes are those of the library, for every length."""

from __future__ import annotations

import random

import numpy as np
import xxhash

from models.kernels.xxh3 import xxh3_64


def test_every_length_at_any_place() -> None:
    data = random.Random(1).randbytes(3000)
    array = np.frombuffer(data, np.uint8)
    lengths = [*range(520), 1023, 1024, 1025, 1088, 1089, 2047, 2048, 2049, 2500]
    for length in lengths:
        start = length % 7
        want = xxhash.xxh3_64_intdigest(data[start : start + length])
        assert int(xxh3_64(array, start, length)) == want, length


def test_uniform_bytes() -> None:
    for byte in (0, 255):
        data = bytes([byte]) * 1500
        array = np.frombuffer(data, np.uint8)
        for length in (1, 3, 8, 16, 17, 128, 129, 240, 241, 1500):
            want = xxhash.xxh3_64_intdigest(data[:length])
            assert int(xxh3_64(array, 0, length)) == want
