"""RocksDB table files of sorted runs, written from the bytes as they were fetched.

The format is RocksDB's "block-based table", version 6 (`FooterBuilder` in table/format.cc and
`BlockBasedTableBuilder` in table/block_based of 10.4); later releases read it. A file is

    data blocks | index | properties | metaindex | footer

It has neither compression nor a filter: merging, which begins when a store serves, makes files with
both of them.
"""

import secrets
import string
from typing import BinaryIO, Final

import numpy as np
from xxhash import xxh3_64_intdigest

from models.history import I64
from stream.kernels.batches import ABSENT
from stream.kernels.blocks import (
    KIND_BYTES,
    MOST_BYTES_BESIDE,
    SEAL_BYTES,
    Blocks,
    Run,
    write_blocks,
)

_CHUNK_BYTES: Final = 4 << 20
_FORMAT: Final = 6
_XXH3: Final = 4
_MAGIC: Final = 0x88E241B785F4CFF7
_EXTENDED_MAGIC: Final = b"\x3e\x00\x7a\x00"
_WORD: Final = 0xFFFFFFFF
_LAST_BYTE_PRIME: Final = 0x6B9083D9
_MORE: Final = 0x80
"""Of a varint's byte: another follows."""
_NO_FAMILY: Final = 0x7FFFFFFF
_SESSION: Final = string.digits + string.ascii_uppercase
_SESSION_LENGTH: Final = 20


def write_table(file: BinaryIO, run: Run) -> None:
    """Write a run of at least one entry as a table file; nothing is synced.

    Raises:
        ValueError: the keys are not in strictly ascending order.
        OSError: the file cannot be written.
    """
    context = secrets.randbelow(_WORD) + 1
    blocks = _write_data(file, run, context)
    start = int(blocks.ends[-1])
    index = _index(run, blocks)
    properties = _block(sorted(_properties(run, blocks, len(index)).items()), alone=True)
    handles = {}
    for name, block in ((b"rocksdb.index", index), (b"rocksdb.properties", properties)):
        handles[name] = _varint(start) + _varint(len(block))
        start += file.write(_sealed(block, start, context))
    metaindex = _block(sorted(handles.items()))
    start += file.write(_sealed(metaindex, start, context))
    file.write(_footer(len(metaindex), start, context))


def _write_data(file: BinaryIO, run: Run, context: int) -> Blocks:
    """Write the data blocks, a few MiB at a time."""
    count = len(run.key_begins)
    rooms = _key_sizes(run) + _value_sizes(run) + MOST_BYTES_BESIDE
    stops = np.cumsum(rooms)
    out = np.empty(0, np.uint8)
    found, first, start = [], 0, 0
    while first < count:
        before = int(stops[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(stops, before + _CHUNK_BYTES, "right")))
        if len(out) < (room := int(stops[last - 1]) - before):
            out = np.empty(room, np.uint8)
        blocks = Blocks(*np.empty((2, last - first), np.int64))
        written, number = write_blocks(run, first, last, start, context, out, blocks)
        if written < 0:
            raise ValueError("the keys of a run are not in ascending order")
        file.write(out[:written].data)
        found.append([column[:number] for column in blocks])
        first, start = last, start + written
    return Blocks(*map(np.concatenate, zip(*found, strict=True)))


def _key_sizes(run: Run) -> I64:
    return run.key_ends - run.key_begins


def _value_sizes(run: Run) -> I64:
    return np.where(run.value_begins == ABSENT, 0, run.value_ends - run.value_begins)


def _index(run: Run, blocks: Blocks) -> bytes:
    """The last key of each block and where the block lies; every entry is a restart."""
    lasts = blocks.entries - 1
    places = zip(
        run.key_begins[lasts].tolist(),
        run.key_ends[lasts].tolist(),
        blocks.ends.tolist(),
        strict=True,
    )
    parts, restarts, begin, at = [], [], 0, 0
    for key, key_end, end in places:
        text = run.data[key:key_end].tobytes()
        size = end - begin - SEAL_BYTES
        entry = b"\0" + _varint(len(text)) + text + _varint(begin) + _varint(size)
        parts.append(entry)
        restarts.append(at)
        at += len(entry)
        begin = end
    return b"".join(parts) + np.array([*restarts, len(restarts)], "<u4").tobytes()


def _properties(run: Run, blocks: Blocks, index_bytes: int) -> dict[bytes, bytes]:
    data_bytes = int(blocks.ends[-1])
    keys, values = _key_sizes(run), _value_sizes(run)
    session = "".join(secrets.choice(_SESSION) for _ in range(_SESSION_LENGTH))
    numbers = {
        "column.family.id": _NO_FAMILY,
        "creation.time": 0,
        "data.size": data_bytes,
        "deleted.keys": int((run.value_begins == ABSENT).sum()),
        "filter.size": 0,
        "fixed.key.length": 0,
        "format.version": _FORMAT,
        "index.key.is.user.key": 1,
        "index.size": index_bytes + SEAL_BYTES,
        "index.value.is.delta.encoded": 1,
        "key.largest.seqno": 0,
        "merge.operands": 0,
        "num.data.blocks": len(blocks.ends),
        "num.entries": len(keys),
        "num.filter_entries": 0,
        "num.range-deletions": 0,
        "oldest.key.time": 0,
        "original.file.number": 1,
        "raw.key.size": int(keys.sum()) + KIND_BYTES * len(keys),
        "raw.value.size": int(values.sum()),
        "tail.start.offset": data_bytes,
    }
    texts = {
        "block.based.table.index.type": bytes(4),
        "block.based.table.prefix.filtering": b"0",
        "block.based.table.whole.key.filtering": b"1",
        "comparator": b"leveldb.BytewiseComparator",
        "compression": b"NoCompression",
        "creating.db.identity": b"SST Writer",
        "creating.session.identity": session.encode(),
        "external_sst_file.global_seqno": bytes(8),
        "external_sst_file.version": (2).to_bytes(4, "little"),
        "merge.operator": b"nullptr",
        "prefix.extractor.name": b"nullptr",
        "property.collectors": b"[]",
    }
    found = texts | {name: _varint(number) for name, number in numbers.items()}
    return {b"rocksdb." + name.encode(): value for name, value in found.items()}


def _block(items: list[tuple[bytes, bytes]], *, alone: bool = False) -> bytes:
    """A block of few items; `alone`: with one restart, else with one for each."""
    parts, restarts, at = [], [], 0
    for key, value in items:
        restarts.append(at)
        entry = b"\0" + _varint(len(key)) + _varint(len(value)) + key + value
        parts.append(entry)
        at += len(entry)
    if alone:
        restarts = [0]
    return b"".join(parts) + np.array([*restarts, len(restarts)], "<u4").tobytes()


def _sealed(block: bytes, start: int, context: int) -> bytes:
    """With its kind of compression and its checksum behind it."""
    checksum = xxh3_64_intdigest(block) + _modifier(start, context)
    return block + b"\0" + _word(checksum)


def _modifier(start: int, context: int) -> int:
    return context ^ ((start + (start >> 32)) & _WORD)


def _footer(metaindex_bytes: int, start: int, context: int) -> bytes:
    def build(checksum: int) -> bytes:
        parts = (
            bytes([_XXH3]),
            _EXTENDED_MAGIC,
            _word(checksum),
            _word(context),
            _word(metaindex_bytes),
            bytes(24),
            _word(_FORMAT),
            _MAGIC.to_bytes(8, "little"),
        )
        return b"".join(parts)

    blank = build(0)
    checksum = (xxh3_64_intdigest(blank[:-1]) & _WORD) ^ (blank[-1] * _LAST_BYTE_PRIME & _WORD)
    return build(checksum + _modifier(start, context))


def _word(number: int) -> bytes:
    return (number & _WORD).to_bytes(4, "little")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= _MORE:
        out.append(number % _MORE | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)
