"""Data blocks, read back by a few lines of Python that follow the description of the format."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from stream.kernels.batches import ABSENT
from stream.kernels.blocks import BLOCK_BYTES, MOST_BYTES_BESIDE, Blocks, Run, write_blocks
from stream.kernels.buffers import joined

CONTEXT, START = 0x8000_0001, (1 << 32) - 100
Pairs = list[tuple[bytes, bytes | None]]


def run_of(pairs: Pairs) -> Run:
    """As they are, in whatever order."""
    parts = [part for pair in pairs for part in pair]
    data, ends = joined(parts)
    begins = ends - [len(part or b"") for part in parts]
    begins[[part is None for part in parts]] = ABSENT
    return Run(data, *(part.copy() for part in (begins[::2], ends[::2], begins[1::2], ends[1::2])))


def varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at


def read_block(block: bytes) -> Pairs:
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    at, key, found, places = 0, b"", [], []
    while at < end:
        begin = at
        shared, at = varint(block, at)
        more, at = varint(block, at)
        size, at = varint(block, at)
        if len(found) % 16 == 0:
            assert shared == 0
            places.append(begin)
        key = key[:shared] + block[at : at + more]
        kind, at = key[-8:], at + more
        assert kind in {bytes(8), b"\x01" + bytes(7)}
        found.append((key[:-8], block[at : at + size] if kind[0] else None))
        at += size
    assert at == end
    assert places == list(struct.unpack(f"<{restarts}I", block[end:-4]))
    return found


def read(out: bytes, blocks: Blocks, first: int) -> Pairs:
    found: Pairs = []
    begin = START
    for end, entries in zip(blocks.ends.tolist(), blocks.entries.tolist(), strict=True):
        whole = out[begin - START : end - START]
        block, kind, (checksum,) = whole[:-5], whole[-5], struct.unpack("<I", whole[-4:])
        where = CONTEXT ^ ((begin + (begin >> 32)) & 0xFFFFFFFF)
        assert kind == 0
        assert checksum == (xxh3_64_intdigest(block) + where) & 0xFFFFFFFF
        found += read_block(block)
        assert len(found) == entries - first
        if entries < first + len(found):
            assert len(block) >= BLOCK_BYTES
        begin = end
    return found


def written(run: Run, first: int, last: int, room: int) -> tuple[bytes, Blocks]:
    out, blocks = np.full(room, 255, np.uint8), Blocks(*np.empty((2, last - first), np.int64))
    used, count = write_blocks(run, first, last, START, CONTEXT, out, blocks)
    return out[:used].tobytes() if used >= 0 else b"refused", Blocks(*(c[:count] for c in blocks))


def some(chance: random.Random, kind: str) -> Pairs:
    if kind == "tiny":  # as many restarts as a block can have
        return [(bytes([high, low]), b"") for high in range(30) for low in range(256)]
    sizes = {"ordinary": 600, "large": 3 * BLOCK_BYTES}
    keys = {b"u" + chance.randbytes(chance.choice((0, 1, 2, 17, 256))) for _ in range(400)}
    # Keys that begin as the one before, and one that is followed by what would be its kind.
    keys |= {key + b"\0" for key in list(keys)[:50]} | {key + b"\1" for key in list(keys)[:50]}
    values = [None, b"", b"x", chance.randbytes(chance.randrange(1, sizes[kind]))]
    return [(key, chance.choice(values)) for key in sorted(keys)]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["tiny", "ordinary", "large"])
def test_what_is_written_is_read_back(kind: str) -> None:
    pairs = some(random.Random(kind), kind)
    for first, last in ((0, len(pairs)), (7, 90), (31, 32)):
        part = pairs[first:last]
        room = sum(len(key) + len(value or b"") + MOST_BYTES_BESIDE for key, value in part)
        out, blocks = written(run_of(pairs), first, last, room)
        assert read(out, blocks, first) == part


@pytest.mark.parametrize("place", [1, 16, 250, 499])
@pytest.mark.parametrize("other", [b"u0000", b"u", None])
def test_keys_out_of_order_are_refused(place: int, other: bytes | None) -> None:
    pairs: Pairs = [(b"u%04d" % n, b"v" * 100) for n in range(1, 501)]
    pairs[place] = (pairs[place - 1][0] if other is None else other, b"")
    out, _ = written(run_of(pairs), 0, len(pairs), 200 * len(pairs))
    assert out == b"refused"
