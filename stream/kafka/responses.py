"""aiokafka's fetch responses, taken as they are.

Its consumer makes an object of eleven fields per record, which costs more than all the rest of
reading. Here it fetches, retries and follows leaders as ever, and what has come is taken batch by
batch, with its rules for transactions: aborted ones and markers are passed over. A kernel finds the
records in the bytes of the batches that are left.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from stream.kernels.batches import COUNT_AT, COUNT_END, Places, find_records
from stream.kernels.buffers import as_array
from stream.pipeline.records import Records

_LENGTH_AT: Final = 8
_LENGTH_END: Final = 12
_CRC_AT: Final = 17
_CHECKED_FROM: Final = 21
"""The checksum (CRC-32C) is of everything from here to the batch's end."""
_MAGIC: Final = 2


class WholeRecords(MemoryRecords):
    """aiokafka's reader of batches; it keeps what it reads from within reach."""

    def __init__(self, data: bytes) -> None:
        """`data`: the batches of one partition in a fetch response, the last maybe cut off."""
        super().__init__(data)
        self.data = data


# The fetcher offers no other place where the bytes of a response pass by.
fetcher.MemoryRecords = WholeRecords


@dataclass(frozen=True)
class Response:
    """What one fetch brought of one partition."""

    batches: list[Any]
    data: bytes
    """Holds the batches, one behind the other."""
    start: int
    """Position that was asked for; the first batch may begin before it."""
    end: int
    """Position behind it."""
    aborted: PartitionRecords
    """Knows which transactions were aborted; its own position is used up."""

    def records(self) -> Records:
        """Find the committed records. To be called once; needs no event loop.

        Raises:
            CorruptRecordException: a batch is not what was written.
        """
        committed = list(self._committed())
        if any(batch.magic != _MAGIC or batch.compression_type for batch, _, _ in committed):
            # Compressed, or older than any producer of today: aiokafka reads it one by one.
            rows = [row for batch, _, _ in committed for row in batch if row.offset >= self.start]
            return Records.of(rows)
        begins = np.array([begin for _, begin, _ in committed], np.int64)
        ends = np.array([end for _, _, end in committed], np.int64)
        places = Places.empty(sum(_count(self.data, begin) for _, begin, _ in committed))
        count = find_records(as_array(self.data), begins, ends, self.start, places)
        if count < 0:
            batch = committed[-1 - count][0]
            raise CorruptRecordException(f"records from offset {batch.base_offset} are malformed")
        return Records(self.data, places.first(count))

    def _committed(self) -> Iterator[tuple[Any, int, int]]:
        """Yield the batches that hold committed records, and where each begins and ends."""
        begin, data, view = 0, self.data, memoryview(self.data)
        for batch in self.batches:
            length = int.from_bytes(data[begin + _LENGTH_AT : begin + _LENGTH_END], "big")
            end = begin + _LENGTH_END + length
            if not _is_sound(batch, view[begin:end]):
                raise CorruptRecordException(f"records from offset {batch.base_offset} are damaged")
            if batch.producer_id is None or not self._is_passed_over(batch):
                yield batch, begin, end
            begin = end

    def _is_passed_over(self, batch: Any) -> bool:
        """Whether a batch is a transaction's marker or belongs to an aborted one."""
        state = self.aborted
        state._consume_aborted_up_to(batch.base_offset)  # noqa: SLF001
        producers = state._aborted_producers  # noqa: SLF001
        if batch.is_control_batch:
            if state._contains_abort_marker(batch):  # noqa: SLF001
                producers.discard(batch.producer_id)
            return True
        return bool(batch.is_transactional and batch.producer_id in producers)


def _is_sound(batch: Any, data: memoryview) -> bool:
    """Whether a batch is what was written; aiokafka's own check takes seven times as long."""
    if batch.magic != _MAGIC:
        return bool(batch.validate_crc())
    return crc32c(data[_CHECKED_FROM:]) == int.from_bytes(data[_CRC_AT:_CHECKED_FROM], "big")


def _count(data: bytes, begin: int) -> int:
    """How many records a batch says it has."""
    return int.from_bytes(data[begin + COUNT_AT : begin + COUNT_END], "big")


def take_response(consumer: AIOKafkaConsumer, tp: TopicPartition) -> Response | None:
    """Take what was fetched of a partition, which lets the next of it be fetched meanwhile.

    On the consumer's event loop. The consumer's position moves to the end of the response.

    Raises:
        KafkaError: the broker refused.
    """
    fetcher: Any = consumer._fetcher  # noqa: SLF001
    found = fetcher._records.pop(tp, None)  # noqa: SLF001
    if found is None:
        return None
    try:
        if not isinstance(found, FetchResult):
            found.check_raise()
            return None
        if not found.check_assignment(tp):
            return None
        parts: Any = found._partition_records  # noqa: SLF001
        start, memory, batches = parts.next_fetch_offset, parts._records, []  # noqa: SLF001
        while memory.has_next():
            batches.append(memory.next_batch())
        # Points back at `parts`: kept, the bytes would stay until the collector comes.
        parts._records_iterator = None  # noqa: SLF001
        if not batches:
            return None
        end = batches[-1].next_offset
        found._assignment.state_value(tp).consumed_to(end)  # noqa: SLF001
        return Response(batches, memory.data, start, end, parts)
    finally:
        fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001


async def wait_for_response(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Wait until a fetch of any partition brings something, or for so long.

    Raises:
        KafkaError: the group's coordinator refused.
    """
    waiter: asyncio.Future[None] = consumer._fetcher._create_fetch_waiter()  # noqa: SLF001
    done, _ = await asyncio.wait({waiter}, timeout=seconds)
    if done:
        waiter.result()
    else:
        waiter.cancel()
