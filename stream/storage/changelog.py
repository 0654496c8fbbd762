"""Reads one changelog partition up to a fixed end, fast.

Keys and values go straight from the fetch responses into a dictionary
(`stream/kafka/responses.py`).
"""

import time
from collections.abc import AsyncGenerator
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.errors import RecoveryError
from stream.faults import async_stage
from stream.health.vitals import Progress
from stream.kafka.responses import Response, take_response, wait_for_response
from stream.storage.store import PARTITION_KEY, USER_PREFIX

_POLL_S: Final = 0.5
_PROGRESS_S: Final = 5.0
STATE: Final = (USER_PREFIX[0], PARTITION_KEY[0])
"""First bytes of the keys that are state; others belong to the committer."""

log = structlog.get_logger(__name__)


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

    async def responses(self, at: int) -> AsyncGenerator[Response, None]:
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
            response = await self._next()
            if response is not None:
                at, empty_poll, self._progressed = response.end, None, time.monotonic()
                self.progress.done = at
                self._report(at)
                yield response
            elif self._nothing_left(empty_poll):
                return
            else:
                self._check_progress(at)
                empty_poll = empty_poll or self._consumer.last_poll_timestamp(self._tp)

    async def _next(self) -> Response | None:
        if (response := take_response(self._consumer, self._tp)) is None:
            await wait_for_response(self._consumer, _POLL_S)
            response = take_response(self._consumer, self._tp)
        return response

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
