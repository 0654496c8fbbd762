"""Read topics without a group: only what is committed, from the end or from the beginning."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError

from stream.errors import BrokerError
from stream.kafka.aiokafka_private import client_of
from stream.kafka.clients import stop_consumer
from stream.kafka.diagnosis import unusable
from stream.kafka.merging import Merge
from stream.kafka.topic_ids import ask_topic_ids
from stream.kafka.topics import absent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from stream.config.settings import Settings

__all__ = ["Bounds", "Tail", "open_bounds", "open_tail"]

_ANSWER_MS: Final = 10_000
_FETCH_BYTES: Final = 8 << 20
_FETCH_WAIT_MS: Final = 100
_AT_ONCE: Final = 5000


class Tail:
    """A position in each partition of some topics; nothing is ever committed."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partitions: list[TopicPartition],
    ) -> None:
        """Wrap a started consumer; use `open_tail`."""
        self._consumer = consumer
        self.partitions = partitions

    async def poll(self, timeout_s: float, limit: int = 5000) -> list[ConsumerRecord]:
        """Return at most `limit` new records, in order per partition; none after `timeout_s`."""
        found = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=limit)
        return [record for records in found.values() for record in records]

    async def ends(self) -> dict[TopicPartition, int]:
        """Return the offset after the last record of each partition, transactions included."""
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(self.partitions)
        return ends

    async def behind_high_water(self) -> bool:
        """Whether an open transaction keeps records back, by the last answers of the brokers."""
        for partition in self.partitions:
            high = self._consumer.highwater(partition)
            if high is not None and await self._consumer.position(partition) < high:
                return True
        return False

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the ids that topics have now, of those that exist."""
        return await ask_topic_ids(client_of(self._consumer), topics)

    async def seek_to_end(self, topic: str) -> None:
        """Pass over what a topic holds now."""
        await self._consumer.seek_to_end(*(p for p in self.partitions if p.topic == topic))

    async def seek_before_end(self, topic: str, records: int) -> None:
        """Begin a topic so many records before its end, taken together over its partitions."""
        where = [p for p in self.partitions if p.topic == topic]
        begins = await self._consumer.beginning_offsets(where)
        ends = await self._consumer.end_offsets(where)
        for partition in where:
            start = ends[partition] - records // len(where)
            self._consumer.seek(partition, max(start, begins[partition]))

    async def seek_to_time(self, topic: str, time: int) -> None:
        """Begin a topic at its first record of the broker's `time` (ms) or later."""
        where = [p for p in self.partitions if p.topic == topic]
        found = await self._consumer.offsets_for_times(dict.fromkeys(where, time))
        for partition, offset in found.items():
            if offset is None:
                await self._consumer.seek_to_end(partition)
            else:
                self._consumer.seek(partition, offset.offset)

    async def offset_at(self, partition: TopicPartition, time: int) -> int:
        """The first offset of any partition with the broker's `time` (ms) or later, or its end."""
        found = (await self._consumer.offsets_for_times({partition: time}))[partition]
        if found is not None:
            return int(found.offset)
        return int((await self._consumer.end_offsets([partition]))[partition])

    async def reached(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether everything before `ends` has been read."""
        for partition, end in ends.items():
            if await self._consumer.position(partition) < end:
                return False
        return True

    async def read_to_end(self, timeout_s: float) -> AsyncIterator[list[ConsumerRecord]]:
        """Yield what there is up to the ends as they are now.

        Raises:
            BrokerError: nothing comes for `timeout_s`, though there is more.
        """
        ends = await self.ends()
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while not await self.reached(ends):
            records = await self.poll(0.1)
            if records:
                moved = loop.time()
                yield records
            elif loop.time() - moved > timeout_s:
                raise _stalled({partition.topic for partition in ends}, timeout_s)

    async def read_in_order(
        self, timeout_s: float, first: str = ""
    ) -> AsyncIterator[list[ConsumerRecord]]:
        """Yield what there is up to the ends as they are now, in one order for every reader.

        All records of the topic `first` come before the others. These come by the broker's time,
        then by topic, partition and offset, and those of a partition as they lie there; how fetches
        bring them makes no difference.

        Raises:
            BrokerError: nothing comes for `timeout_s`, though there is more.
        """
        ends = await self.ends()
        merge = Merge(first)
        loop = asyncio.get_running_loop()
        moved = loop.time()
        behind = [p for p, end in ends.items() if await self._consumer.position(p) < end]
        merge.expect(behind)
        while behind:
            lacking = [partition for partition in behind if merge.lacks(partition)]
            found = await self._consumer.getmany(
                *lacking, timeout_ms=_FETCH_WAIT_MS, max_records=_AT_ONCE
            )
            for partition, records in found.items():
                moved = loop.time()
                end = ends[partition]
                merge.add(partition, [record for record in records if record.offset < end])
                if records[-1].offset >= end:
                    self._consumer.seek(partition, end)
            for partition in lacking:
                if await self._consumer.position(partition) >= ends[partition]:
                    behind.remove(partition)
                    merge.close(partition)
            if ordered := list(merge.take()):
                yield ordered
            if loop.time() - moved > timeout_s:
                raise _stalled({partition.topic for partition in behind}, timeout_s)


class Bounds:
    """Where the partitions of a topic begin and end; reads no record of it."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Wrap a started consumer; use `open_bounds`."""
        self._consumer = consumer
        self._partitions = partitions

    async def read(self) -> dict[int, tuple[int, int]]:
        """Return per partition the first offset and the high watermark as they are now.

        The high watermark counts what open transactions keep back from read_committed consumers.
        """
        begins = await self._consumer.beginning_offsets(self._partitions)
        ends = await self._consumer.end_offsets(self._partitions)
        return {where.partition: (begins[where], ends[where]) for where in self._partitions}


@contextlib.asynccontextmanager
async def open_bounds(settings: Settings, topic: str) -> AsyncIterator[Bounds]:
    """Open a topic of which only the bounds are asked for; needs no right to read it.

    Raises:
        SettingsError: the settings name no broker.
        BrokerError: no broker answers.
        TopicLayoutError: the topic does not exist.
    """
    consumer = _consumer(settings, "read_uncommitted")
    try:
        async with _answering(settings):
            partitions = await _partitions(await _describe(settings), [topic], settings)
            await consumer.start()
        yield Bounds(consumer, partitions)
    finally:
        await stop_consumer(consumer)


@contextlib.asynccontextmanager
async def open_tail(
    settings: Settings, topics: Iterable[str], *, from_beginning: bool = False
) -> AsyncIterator[Tail]:
    """Open all partitions of the topics, at their end or at their beginning.

    Raises:
        SettingsError: the settings name no broker.
        BrokerError: no broker answers.
        TopicLayoutError: a topic does not exist.
    """
    consumer = _consumer(settings, "read_committed")
    try:
        async with _answering(settings):
            partitions = await _partitions(await _describe(settings), list(topics), settings)
            await consumer.start()
            consumer.assign(partitions)
            seek = consumer.seek_to_beginning if from_beginning else consumer.seek_to_end
            await seek(*partitions)
        yield Tail(consumer, partitions)
    finally:
        await stop_consumer(consumer)


def _consumer(settings: Settings, isolation: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        group_id=None,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=_ANSWER_MS,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        max_partition_fetch_bytes=_FETCH_BYTES,
        **settings.kafka.client_options(),
    )


@contextlib.asynccontextmanager
async def _answering(settings: Settings) -> AsyncIterator[None]:
    try:
        yield
    except (KafkaError, OSError) as error:
        raise await unusable(settings.kafka, error) from error


def _stalled(topics: set[str], timeout_s: float) -> BrokerError:
    return BrokerError(
        f"no record of {', '.join(sorted(topics))} for {timeout_s:.0f} s, though more are there:"
        " check the broker, and for a transaction left open"
    )


async def _describe(settings: Settings) -> ClusterMetadata:
    # A client of its own: asking a consumer for one topic by name might create it.
    client = AIOKafkaClient(**settings.kafka.client_options(), request_timeout_ms=_ANSWER_MS)
    try:
        await client.bootstrap()
        return await client.fetch_all_metadata()
    finally:
        await client.close()


async def _partitions(
    cluster: ClusterMetadata, topics: list[str], settings: Settings
) -> list[TopicPartition]:
    missing = [topic for topic in topics if not cluster.partitions_for_topic(topic)]
    if missing:
        raise await absent(settings, missing)
    return [
        TopicPartition(topic, number)
        for topic in topics
        for number in sorted(cluster.partitions_for_topic(topic))
    ]
