"""Reads one changelog partition up to a fixed end, fast.

aiokafka hands over an object per record, which costs more than all the rest of a restore. Here its
consumer fetches, retries and follows leaders as ever, and its fetch responses are taken as they
are: batches of records whose keys and values go straight into a dictionary.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

from stream.errors import RecoveryError
from stream.faults import async_stage
from stream.store import PARTITION_KEY, USER_PREFIX
from stream.vitals import Progress

_POLL_S: Final = 0.5
_PROGRESS_S: Final = 5.0
_STATE: Final = (USER_PREFIX[0], PARTITION_KEY[0])
"""First bytes of the keys that are state; others belong to the committer."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Stretch:
    """A part of the changelog as it was fetched."""

    response: PartitionRecords
    """Knows which transactions were aborted; its own position is used up."""
    batches: list[Any]
    start: int
    """Records before this were read already."""
    end: int
    """Offset behind it."""

    def records(self) -> tuple[dict[bytes, bytes | None], int]:
        """Return the last value of each key, and how many records were read.

        Raises:
            CorruptRecordException: a batch is not what was written.
        """
        values: dict[bytes, bytes | None] = {}
        count = 0
        for batch in self.batches:
            if not batch.validate_crc():
                raise CorruptRecordException(f"records from offset {batch.base_offset} are damaged")
            if self._is_passed_over(batch):
                continue
            seen = batch.base_offset >= self.start
            for record in batch:
                if seen or record.offset >= self.start:
                    count += 1
                    key = record.key
                    if key and key[0] in _STATE:
                        values[key] = record.value
        return values, count

    def _is_passed_over(self, batch: Any) -> bool:
        """Whether a batch holds no state: a transaction's marker, or records of an aborted one."""
        response = self.response
        response._consume_aborted_up_to(batch.base_offset)  # noqa: SLF001
        aborted = response._aborted_producers  # noqa: SLF001
        if batch.is_control_batch:
            if response._contains_abort_marker(batch):  # noqa: SLF001
                aborted.discard(batch.producer_id)
            return True
        return bool(batch.is_transactional and batch.producer_id in aborted)


class ChangelogReader:
    """Reads from an offset to the end that was fixed before."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        changelog: TopicPartition,
        end: int,
        stall_timeout_s: float,
        progress: Progress | None = None,
    ) -> None:
        """`consumer`: started and assigned, reading committed records."""
        self.end = end
        self.records = 0
        """Records read, counted by who reads them."""
        self.progress = progress or Progress()
        self._consumer = consumer
        self._tp = changelog
        self._where = f"{changelog.topic}-{changelog.partition}"
        self._stall_timeout_s = stall_timeout_s
        self._began = self._reported = self._progressed = time.monotonic()

    async def stretches(self, at: int) -> AsyncGenerator[Stretch, None]:
        """Yield what there is from offset `at` to the end, in order.

        Raises:
            RecoveryError: nothing comes any more.
            KafkaError: the broker refuses.
        """
        if at >= self.end:
            return
        self._consumer.seek(self._tp, at)
        self._progressed = time.monotonic()
        empty_poll = None
        while at < self.end:
            await async_stage("in_recovery")
            self.progress.check()
            stretch = await self._next(at)
            if stretch is not None:
                at, empty_poll, self._progressed = stretch.end, None, time.monotonic()
                self.progress.done = at
                self._report(at)
                yield stretch
            elif self._nothing_left(empty_poll):
                return
            else:
                self._check_progress(at)
                empty_poll = empty_poll or self._consumer.last_poll_timestamp(self._tp)

    async def _next(self, at: int) -> Stretch | None:
        """Take the next fetch response, which lets the one after it be fetched meanwhile."""
        fetcher = self._consumer._fetcher  # noqa: SLF001
        if self._tp not in fetcher._records:  # noqa: SLF001
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            done, _ = await asyncio.wait({waiter}, timeout=_POLL_S)
            if not done:
                waiter.cancel()
                return None
            waiter.result()
        found = fetcher._records.pop(self._tp, None)  # noqa: SLF001
        try:
            if found is None:
                return None
            if not isinstance(found, FetchResult):
                found.check_raise()
                return None
            return self._taken(found, at)
        finally:
            fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001

    def _taken(self, found: FetchResult, at: int) -> Stretch | None:
        if not found.check_assignment(self._tp):
            return None
        response = found._partition_records  # noqa: SLF001
        memory = response._records  # noqa: SLF001
        batches = []
        while memory.has_next():
            batches.append(memory.next_batch())
        if not batches:
            return None
        end = batches[-1].next_offset
        found._assignment.state_value(self._tp).consumed_to(end)  # noqa: SLF001
        return Stretch(response, batches, at, end)

    def _check_progress(self, at: int) -> None:
        if time.monotonic() - self._progressed > self._stall_timeout_s:
            raise RecoveryError(
                f"{self._where}: no progress for {self._stall_timeout_s:g} s at offset {at} of"
                f" {self.end}; check the broker and the changelog topic"
            )

    def _report(self, at: int) -> None:
        now = time.monotonic()
        if now - self._reported > _PROGRESS_S:
            rate = round(self.records / (now - self._began))
            log.info(
                "restoring", changelog=self._where, offset=at, end=self.end, records_per_second=rate
            )
            self._reported = now

    def _nothing_left(self, empty_poll: int | None) -> bool:
        """Whether a poll answered after `empty_poll` found nothing up to a stable end.

        Compaction may leave nothing between the position and the end, and then the position of a
        consumer never gets there.
        """
        stable = self._consumer.last_stable_offset(self._tp)
        polled = self._consumer.last_poll_timestamp(self._tp)
        return (
            empty_poll is not None
            and polled is not None
            and polled > empty_poll
            and stable is not None
            and stable >= self.end
        )
