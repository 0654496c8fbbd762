"""Reads one partition's requests to forget users, beside the partition's events."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from stream.config.settings import Settings
from stream.errors import EraseError
from stream.health.vitals import Progress, Sign
from stream.kafka.clients import failure_of, stop_consumer
from stream.pipeline.erasure import Erasure, read_requests

_WAIT_MS: Final = 1_000
"""How long the broker may hold an empty fetch back; a request ends it."""
_REQUESTS: Final = 5_000

log = structlog.get_logger(__name__)


class Eraser:
    """Follows the request partition of one source partition, without a consumer group.

    The position is part of the partition's own record: a request is done when the commit that holds
    its tombstone and its receipt is.
    """

    def __init__(
        self, settings: Settings, source: TopicPartition, kept_ms: Mapping[str, int | None]
    ) -> None:
        """Connect to nothing; `kept_ms` goes into the receipts."""
        self._settings = settings
        self._source = source
        self._tp = TopicPartition(settings.topics.erase, source.partition)
        self._where = f"{self._tp.topic}-{self._tp.partition}"
        self._kept_ms = kept_ms
        self._arrived: list[Erasure] = []
        self._consumer: AIOKafkaConsumer | None = None
        self._following: asyncio.Task[None] | None = None
        self._looks = 0
        self.on_arrival: Callable[[], None] = lambda: None
        """Called when there is something to take."""

    async def start(self, offset: int, progress: Progress) -> None:
        """Read the requests from `offset` to the end there is now, then follow the topic.

        Raises:
            ClusterUnreachable: nobody answers.
            EraseError: the topic cannot be read.
        """
        progress.enter("reading requests to forget users")
        consumer = self._consumer = AIOKafkaConsumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=_WAIT_MS,
            **self._settings.kafka.client_options(),
        )
        with self._named():
            await consumer.start()
            consumer.assign([self._tp])
            first = (await consumer.beginning_offsets([self._tp]))[self._tp]
            end = (await consumer.end_offsets([self._tp]))[self._tp]
            # A topic that ends before it was read to was made anew: all of it is new.
            consumer.seek(self._tp, first if offset > end else max(offset, first))
            while await consumer.position(self._tp) < end:
                await self._look()
                progress.done = await consumer.position(self._tp)
        self._following = asyncio.create_task(self._follow())

    def take(self) -> list[Erasure]:
        """Return what has come since the last call.

        Raises:
            ClusterUnreachable: nobody answers any more.
            EraseError: the topic cannot be read any more.
        """
        following = self._following
        if following is not None and following.done():
            following.result()
        arrived, self._arrived = self._arrived, []
        return arrived

    @property
    def sign(self) -> Sign:
        """That it goes on."""
        return Sign(f"{self._where}: requests to forget users", self._looks, True)

    async def close(self) -> None:
        """Disconnect; a second call does nothing."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
            if not following.cancelled():
                following.exception()  # seen: `take` has raised it, or the partition ends anyway
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)

    async def _follow(self) -> None:
        with self._named():
            while True:
                await self._look()

    async def _look(self) -> None:
        consumer = self._consumer
        if consumer is None:
            raise EraseError(f"{self._where}: the reader is closed")
        fetched = await consumer.getmany(self._tp, timeout_ms=_WAIT_MS, max_records=_REQUESTS)
        records: list[ConsumerRecord] = fetched.get(self._tp, [])
        self._looks += 1
        if not records:
            return
        pseudonyms = self._settings.privacy.pseudonyms is not None
        self._arrived += read_requests(
            records,
            until=await self._source_end(),
            partition=self._tp.partition,
            partitions=None if pseudonyms else self._settings.topics.partitions,
            kept_ms=self._kept_ms,
        )
        self.on_arrival()

    async def _source_end(self) -> int:
        """Return the end of all that lies in the source, also in transactions still open."""
        consumer = AIOKafkaConsumer(
            isolation_level="read_uncommitted", **self._settings.kafka.client_options()
        )
        try:
            await consumer.start()
            return int((await consumer.end_offsets([self._source]))[self._source])
        finally:
            await stop_consumer(consumer)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OffsetOutOfRangeError as error:
            raise EraseError(
                f"{self._where}: {self._tp.topic} was deleted and created again while it was being"
                " read, or its requests were deleted unread: start the worker again, which reads"
                " the topic from its beginning"
            ) from error
        except KafkaError as error:
            raise failure_of(error, EraseError)(
                f"{self._where}: requests to forget users cannot be read: {error!r}; check the"
                " broker and the rights on the topic"
            ) from error
