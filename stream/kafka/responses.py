"""aiokafka's fetch responses, taken as they are.

Its consumer makes an object of eleven fields per record, which costs more than all the rest of
reading. Here it fetches, retries and follows leaders as ever, and what has come is taken batch by
batch, with its rules for transactions: aborted ones and markers are passed over. A kernel finds the
records in the bytes of the batches that are left, once those are decompressed.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException

from stream.kafka.aiokafka_private import fetch_waiter, is_passed_over, take_fetched
from stream.kafka.batches import batch_end, unreadable
from stream.kafka.decompressing import MAGIC, CodecError, is_sound, plain_batch
from stream.kernels.batches import COUNT_AT, COUNT_END, Places, find_records
from stream.kernels.buffers import as_array
from stream.pipeline.records import Records

PART_BYTES: Final = 4 << 20
"""Decompressed batches are gathered until they have so many bytes."""


class Part(NamedTuple):
    """Committed records of a response, in offset order, and the position behind them."""

    records: Records
    end: int


@dataclass(frozen=True)
class Response:
    """What one fetch brought of one partition."""

    tp: TopicPartition
    batches: list[Any]
    data: bytes
    """Holds the batches, one behind the other."""
    start: int
    """Position that was asked for; the first batch may begin before it."""
    end: int
    """Position behind it."""
    aborted: PartitionRecords
    """Knows which transactions were aborted; its own position is used up."""

    def parts(self) -> Iterator[Part]:
        """Find the committed records; to be called once, needs no event loop.

        Decompressed records come in parts of bounded size, all others in one; a part may be
        without records.

        Raises:
            LogUnreadable: a batch is not what was written, or cannot be decompressed.
        """
        run, reached = _Run(), self.start
        for batch, begin, end in self._committed():
            kind = _kind(batch)
            if run.batches and (kind is not run.kind or run.size >= PART_BYTES):
                yield Part(self._records(run), reached)
                run = _Run()
            run.kind = kind
            self._add(run, batch, begin, end)
            reached = batch.next_offset
        yield Part(self._records(run), self.end)

    def _add(self, run: "_Run", batch: Any, begin: int, end: int) -> None:
        if run.kind is _Kind.COMPRESSED:
            try:
                plain = plain_batch(memoryview(self.data)[begin:end])
            except CodecError as error:
                raise unreadable(self.tp, batch.base_offset, error) from error
            run.pieces.append(plain)
            begin, end = run.size, run.size + len(plain)
            run.size = end
        run.batches.append(batch)
        run.begins.append(begin)
        run.ends.append(end)

    def _records(self, run: "_Run") -> Records:
        if run.kind is _Kind.OLD:
            rows = [row for batch in run.batches for row in batch if row.offset >= self.start]
            return Records.of(rows)
        data = b"".join(run.pieces) if run.pieces else self.data
        places = Places.empty(sum(_count(data, begin) for begin in run.begins))
        begins, ends = np.array(run.begins, np.int64), np.array(run.ends, np.int64)
        count = find_records(as_array(data), begins, ends, self.start, places)
        if count < 0:
            raise self._damaged(run.batches[-1 - count])
        return Records(data, places.first(count))

    def _committed(self) -> Iterator[tuple[Any, int, int]]:
        """Yield the batches that hold committed records, and where each begins and ends."""
        begin, view = 0, memoryview(self.data)
        for batch in self.batches:
            end = batch_end(view, begin)
            if not _is_sound(batch, view[begin:end]):
                raise self._damaged(batch)
            if batch.producer_id is None or not is_passed_over(self.aborted, batch):
                yield batch, begin, end
            begin = end

    def _damaged(self, batch: Any) -> Exception:
        return unreadable(self.tp, batch.base_offset, CorruptRecordException())


class _Kind(Enum):
    """How the records of a batch are got at."""

    PLAIN = 0
    COMPRESSED = 1
    OLD = 2
    """Older than any producer of today: aiokafka reads it one by one."""


def _kind(batch: Any) -> _Kind:
    if batch.magic != MAGIC:
        return _Kind.OLD
    return _Kind.COMPRESSED if batch.compression_type else _Kind.PLAIN


@dataclass
class _Run:
    """Batches of one kind that become one part."""

    kind: _Kind = _Kind.PLAIN
    batches: list[Any] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    """The decompressed batches, between whose `begins` and `ends` each lies when joined."""
    size: int = 0
    """Bytes of the pieces."""


def _is_sound(batch: Any, data: memoryview) -> bool:
    """Whether a batch is what was written; aiokafka's own check takes seven times as long."""
    return is_sound(data) if batch.magic == MAGIC else bool(batch.validate_crc())


def _count(data: bytes, begin: int) -> int:
    """How many records a batch says it has."""
    return int.from_bytes(data[begin + COUNT_AT : begin + COUNT_END], "big")


def take_response(consumer: AIOKafkaConsumer, tp: TopicPartition) -> Response | None:
    """Take what was fetched of a partition, which lets the next of it be fetched meanwhile.

    On the consumer's event loop. The consumer's position moves to the end of the response.

    Raises:
        KafkaError: the broker refused.
    """
    found = take_fetched(consumer, tp)
    if found is None:
        return None
    return Response(tp, found.batches, found.data, found.start, found.end, found.transactions)


async def wait_for_response(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Wait until a fetch of any partition brings something, or for so long.

    Raises:
        KafkaError: the group's coordinator refused.
    """
    waiter = fetch_waiter(consumer)
    done, _ = await asyncio.wait({waiter}, timeout=seconds)
    if done:
        waiter.result()
    else:
        waiter.cancel()
