"""aiokafka's fetch responses, taken as they are.

Its consumer makes an object of eleven fields per record, which costs more than all the rest of
reading. Here it fetches, retries and follows leaders as ever, and what has come is taken batch by
batch, with its rules for transactions: aborted ones and markers are passed over.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException


@dataclass(frozen=True)
class Response:
    """What one fetch brought of one partition."""

    batches: list[Any]
    start: int
    """Position that was asked for; the first batch may begin before it."""
    end: int
    """Position behind it."""
    aborted: PartitionRecords
    """Knows which transactions were aborted; its own position is used up."""

    def committed(self) -> Iterator[Any]:
        """Yield the batches that hold committed records. To be called once; needs no event loop.

        Raises:
            CorruptRecordException: a batch is not what was written.
        """
        for batch in self.batches:
            if not batch.validate_crc():
                raise CorruptRecordException(f"records from offset {batch.base_offset} are damaged")
            if batch.producer_id is None or not self._is_passed_over(batch):
                yield batch

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
        if not batches:
            return None
        end = batches[-1].next_offset
        found._assignment.state_value(tp).consumed_to(end)  # noqa: SLF001
        return Response(batches, start, end, parts)
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
