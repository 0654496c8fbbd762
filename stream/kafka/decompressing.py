"""Compressed record batches -> the same batches without compression, within a bound of memory.

The codecs are those of Kafka's documentation (Message Format, Record Batch: attributes, bits 0-2).
Java's snappy writes its stream in blocks of its own framing (xerial), librdkafka's one raw block;
both are read. `cramjam` decompresses into a buffer of fixed size, so that a small batch that holds
gigabytes is refused before it fills memory.
"""

import struct
from typing import Final

import cramjam
import numpy as np
from crc32c import crc32c

MAGIC: Final = 2
LENGTH_AT: Final = 8
LENGTH_END: Final = 12
CRC_AT: Final = 17
CHECKED_FROM: Final = 21
"""The checksum (CRC-32C) covers everything from here to the batch's end."""
_ATTRIBUTES_END: Final = 23
_HEAD_END: Final = 61
_CODEC: Final = 0x07
NAMES: Final = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
LARGEST: Final = 256 << 20
"""Bytes that the records of one batch may take when they are decompressed."""
_FRAMED: Final = {1: cramjam.gzip, 3: cramjam.lz4, 4: cramjam.zstd}
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEAD: Final = 16
"""Bytes: magic (8), version, oldest version that can read it."""
_BLOCK_LENGTH: Final = struct.Struct(">i")


class CodecError(Exception):
    """The records of a batch cannot be decompressed; says why, not where."""


def is_sound(batch: memoryview) -> bool:
    """Return whether the checksum of a batch (magic 2) is that of its bytes."""
    return crc32c(batch[CHECKED_FROM:]) == int.from_bytes(batch[CRC_AT:CHECKED_FROM], "big")


def plain_batch(batch: memoryview, largest: int = LARGEST) -> bytes:
    """Return a batch (magic 2) with the same records, not compressed, and the checksum of that.

    Args:
        batch: all of its bytes, with a right checksum.
        largest: bytes that its records may take.

    Raises:
        CodecError: the codec is unknown, the data is not of that codec, or holds too much.
    """
    attributes = int.from_bytes(batch[CHECKED_FROM:_ATTRIBUTES_END], "big")
    records = _decompressed(attributes & _CODEC, batch[_HEAD_END:], largest)
    plain = bytearray(_HEAD_END + len(records))
    plain[:_HEAD_END] = batch[:_HEAD_END]
    plain[_HEAD_END:] = records
    plain[LENGTH_AT:LENGTH_END] = (len(plain) - LENGTH_END).to_bytes(4, "big")
    plain[CHECKED_FROM:_ATTRIBUTES_END] = (attributes & ~_CODEC).to_bytes(2, "big")
    plain[CRC_AT:CHECKED_FROM] = crc32c(memoryview(plain)[CHECKED_FROM:]).to_bytes(4, "big")
    return bytes(plain)


def _decompressed(codec: int, data: memoryview, largest: int) -> memoryview:
    if codec not in NAMES:
        known = ", ".join(NAMES.values())
        raise CodecError(f"compression codec {codec} is none of {known}: use a newer release")
    if not data:
        return data
    try:
        if codec in _FRAMED:
            # Pages of the buffer that nothing is written to take no memory.
            room = np.empty(largest, np.uint8)
            return room.data[: _FRAMED[codec].decompress_into(data, room)]
        blocks = _xerial_blocks(data) if bytes(data[: len(_XERIAL)]) == _XERIAL else [data]
        sizes = [cramjam.snappy.decompress_raw_len(block) for block in blocks]
        if sum(sizes) > largest:
            raise CodecError(f"{sum(sizes)} bytes of snappy data are more than {largest}")
        return memoryview(b"".join(bytes(cramjam.snappy.decompress_raw(b)) for b in blocks))
    except (cramjam.DecompressionError, struct.error) as error:
        raise CodecError(
            f"{NAMES[codec]} data is damaged, or holds more than {largest} bytes: {error}"
        ) from error


def _xerial_blocks(data: memoryview) -> list[memoryview]:
    """Split Java's framing: a head, then blocks with their length (int32) in front."""
    blocks, at = [], _XERIAL_HEAD
    while at < len(data):
        (length,) = _BLOCK_LENGTH.unpack_from(data, at)
        at += _BLOCK_LENGTH.size
        if not 0 <= length <= len(data) - at:
            raise CodecError(f"snappy block of {length} bytes, of which {len(data) - at} are there")
        blocks.append(data[at : at + length])
        at += length
    return blocks
