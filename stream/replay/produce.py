"""Rows -> a Kafka topic: idempotent, keyed by murmur2, in order per partition, at a pace.

Records carry the wall clock of producing as their Kafka timestamp: with the event time of an old
data set there, the broker's retention would delete them at once.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas.codec import decode_event, encode
from schemas.errors import InvalidEvent
from schemas.pseudonym import Pseudonyms
from stream.config.settings import Settings
from stream.errors import BrokerError
from stream.kafka.diagnosis import denied, why
from stream.kafka.topics import absent
from stream.pipeline.ingest import partition_of
from stream.replay.errors import ProduceError
from stream.replay.order import Row
from stream.replay.pace import Pace
from stream.replay.report import Report

__all__ = ["produce"]

_BATCH_BYTES: Final = 256 << 10
_CHUNK_ROWS: Final = 4096
_TICK_SECONDS: Final = 0.01
"""Events due within this time are sent together."""
_KEYS_CACHED: Final = 1_000_000


async def produce(
    settings: Settings,
    rows: Iterable[Row],
    *,
    topic: str | None = None,
    pace: Pace | None = None,
    report: Report | None = None,
    stop: asyncio.Event | None = None,
) -> Report:
    """Send the rows in the given order and wait until the broker has acknowledged every one.

    Args:
        settings: how to reach the cluster, the default topic, and whether users get pseudonyms.
        rows: what to send; read in another thread, ahead of sending by a bounded amount.
        topic: where to; none: `settings.topics.events`.
        pace: when each row is due, by its `time`; none: as fast as the broker takes them.
        report: counts are added to it, live; the one that `read_rows` fills completes the picture.
        stop: once set, what was handed over is still delivered and the report says `interrupted`.

    Returns:
        The report.

    Raises:
        ProduceError: no broker, no such topic, or a batch that was not acknowledged.
        SettingsError: the settings name no broker.
    """
    name = topic or settings.topics.events
    counts = report if report is not None else Report()
    halt = stop or asyncio.Event()
    pacing = pace or Pace(math.inf)
    pseudonyms = settings.privacy.pseudonyms
    source = iter(rows) if pseudonyms is None else _pseudonymised(rows, pseudonyms)
    async with _producer(settings) as producer:
        sender = _Sender(
            producer, name, await _partitions(producer, name, settings), counts, settings
        )
        started = time.monotonic()
        before = counts.seconds
        while chunk := await asyncio.to_thread(_take, source):
            await _send_paced(sender, chunk, pacing, halt)
            counts.seconds = before + time.monotonic() - started
            if halt.is_set():
                counts.interrupted = True
                break
        await sender.finish()
        counts.seconds = before + time.monotonic() - started
    return counts


def _pseudonymised(rows: Iterable[Row], pseudonyms: Pseudonyms) -> Iterator[Row]:
    """The rows without their users' ids.

    Raises:
        ProduceError: a row is no event, and so nobody can tell whom it names.
    """
    for row in rows:
        try:
            event = pseudonyms.event(decode_event(row.value))
        except InvalidEvent as error:
            raise ProduceError(
                f"a row is no event ({error.reason}) and cannot be pseudonymised: take it out, or"
                " unset privacy.pseudonym_key"
            ) from None
        yield row._replace(key=event.user_id.encode(), value=encode(event))


def _take(source: Iterator[Row]) -> list[Row]:
    return list(islice(source, _CHUNK_ROWS))


async def _send_paced(sender: "_Sender", rows: list[Row], pace: Pace, halt: asyncio.Event) -> None:
    if pace.unlimited:
        await sender.send(rows)
        return
    start = 0
    for place, row in enumerate(rows):
        wait = pace.wait(row.time)
        if wait < _TICK_SECONDS:
            continue
        await sender.send(rows[start:place])
        await sender.flush()
        start = place
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(halt.wait(), pace.wait(row.time))
        if halt.is_set():
            return
    await sender.send(rows[start:])
    await sender.flush()


@contextlib.asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    options = settings.kafka.client_options()
    producer = AIOKafkaProducer(
        **options, enable_idempotence=True, max_batch_size=_BATCH_BYTES, linger_ms=0
    )
    try:
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            raise ProduceError(await why(settings.kafka, error)) from error
        yield producer
    finally:
        await producer.stop()


async def _partitions(producer: AIOKafkaProducer, topic: str, settings: Settings) -> list[int]:
    """Ask without creating: a topic made by chance would have the wrong layout."""
    try:
        cluster = await producer.client.fetch_all_metadata()
    except KafkaError as error:
        raise ProduceError(await why(settings.kafka, error)) from error
    partitions: set[int] | None = cluster.partitions_for_topic(topic)
    if not partitions:
        problem = await absent(settings, [topic])
        if isinstance(problem, BrokerError):
            raise ProduceError(str(problem))
        raise ProduceError(
            f"there is no topic {topic} on the broker; run `intentstream topics create`, or pass"
            " --topic"
        )
    return sorted(partitions)


class _Sender:
    """Fills one batch per partition; a full one is queued before the next is begun."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partitions: list[int],
        report: Report,
        settings: Settings,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._kafka = settings.kafka
        self._partitions = partitions
        self._report = report
        self._builders: dict[int, BatchBuilder] = {}
        self._pending: set[asyncio.Future[object]] = set()
        self._failed: tuple[int, int, BaseException] | None = None
        self._of_key: dict[bytes | None, int] = {None: partitions[0]}

    async def send(self, rows: list[Row]) -> None:
        """Add rows to their partitions' batches."""
        if not rows:
            return
        now = time.time_ns() // 1_000_000
        builders = self._builders
        of_key = self._of_key
        for _, _, key, value in rows:
            partition = of_key.get(key)
            if partition is None:
                partition = self._place(key or b"")
            builder = builders.get(partition)
            if builder is None:
                builder = builders[partition] = self._producer.create_batch()
            if builder.append(timestamp=now, key=key, value=value) is None:
                await self._submit(partition)
                builder = builders[partition] = self._producer.create_batch()
                builder.append(timestamp=now, key=key, value=value)
        self._note_times(rows)

    async def flush(self) -> None:
        """Queue what is in the batches, full or not."""
        for partition in list(self._builders):
            await self._submit(partition)

    async def finish(self) -> None:
        """Flush and wait for every acknowledgement."""
        await self.flush()
        if self._pending:
            await asyncio.wait(self._pending)
        self._check()

    def _place(self, key: bytes) -> int:
        if len(self._of_key) > _KEYS_CACHED:
            self._of_key = {None: self._partitions[0]}
        partition = self._partitions[partition_of(key, len(self._partitions))]
        self._of_key[key] = partition
        return partition

    async def _submit(self, partition: int) -> None:
        self._check()
        builder = self._builders.pop(partition)
        count = builder.record_count()
        try:
            delivered = await self._producer.send_batch(builder, self._topic, partition=partition)
        except KafkaError as error:
            raise self._failure(partition, count, error) from error
        self._pending.add(delivered)
        delivered.add_done_callback(partial(self._delivered, partition, count))

    def _delivered(self, partition: int, count: int, future: "asyncio.Future[object]") -> None:
        self._pending.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._failed = self._failed or (partition, count, error)
        elif not future.cancelled():
            report = self._report
            report.sent += count
            report.partitions[partition] = report.partitions.get(partition, 0) + count

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failure(*self._failed) from self._failed[2]

    def _note_times(self, rows: list[Row]) -> None:
        report = self._report
        low = min(row.time for row in rows)
        high = max(row.time for row in rows)
        report.first_time = low if report.first_time is None else min(low, report.first_time)
        report.last_time = high if report.last_time is None else max(high, report.last_time)

    def _failure(self, partition: int, count: int, error: BaseException) -> ProduceError:
        remedy = denied(error, self._kafka) or f"{type(error).__name__}: {error}; check the broker"
        return ProduceError(
            f"{count} events for {self._topic}, partition {partition}, were not acknowledged:"
            f" {remedy}. {self._report.sent} others were; produce again: event ids are stable, so"
            " repeats count as duplicates"
        )
