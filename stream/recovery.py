"""Changelog -> RocksDB: brings a partition's store up to the end of its changelog.

Called after the partition's transactional producer is initialised. From then on nobody else can
write to the changelog partition and no transaction is open, so its end is fixed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError

from stream.errors import RecoveryError
from stream.faults import async_stage, stage
from stream.store import NO_OFFSET, PARTITION_KEY, USER_PREFIX, DueOf, RocksStore
from stream.vitals import Progress

STALL_TIMEOUT_S: Final = 60.0
"""A changelog that yields nothing for this long although it has not ended is given up."""
_POLL_MS: Final = 500
_FETCH_BYTES: Final = 8 << 20
_CHUNK: Final = 20_000
_PROGRESS_S: Final = 5.0

Aside = Callable[..., Awaitable[Any]]
"""Runs a blocking call in another thread."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Recovery:
    """What a recovery did."""

    records: int
    """Changelog records read."""
    end_offset: int
    """End of the changelog: everything before it is contained."""
    wiped: bool
    """Whether the store was emptied first."""
    seconds: float


async def recover(
    client_options: dict[str, Any],
    changelog: TopicPartition,
    store: RocksStore,
    *,
    due_of: DueOf,
    reset: Callable[[], RocksStore],
    stall_timeout_s: float = STALL_TIMEOUT_S,
    aside: Aside = asyncio.to_thread,
    progress: Progress | None = None,
) -> tuple[RocksStore, Recovery]:
    """Read the changelog from where the store is to its end.

    Args:
        client_options: those of every Kafka client of the worker.
        changelog: partition to read; no transaction is open on it.
        store: open store; replaced by `reset` when the changelog does not continue it.
        due_of: due time that a user record asks for; rebuilds the timer index.
        reset: closes and wipes the store and opens an empty one.
        stall_timeout_s: give up after this long without progress.
        aside: runs what waits for the disk.
        progress: told how far it is.

    Returns:
        The store to go on with, and what was done.

    Raises:
        RecoveryError: the changelog cannot be read to its end.
        StoreError: the store cannot be written.
    """
    began = time.monotonic()
    progress = progress or Progress()
    progress.enter("asking for the changelog")
    where = f"{changelog.topic}-{changelog.partition}"
    consumer = AIOKafkaConsumer(
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=_POLL_MS,
        **client_options,
    )
    try:
        await consumer.start()
        consumer.assign([changelog])
        first = (await consumer.beginning_offsets([changelog]))[changelog]
        end = (await consumer.end_offsets([changelog]))[changelog]
        at, wiped = store.changelog_offset + 1, False
        reason = _why_unusable(at, first, end)
        if reason:
            log.warning("state is wiped and restored", changelog=where, reason=reason)
            store, at, wiped = reset(), 0, True
        progress.enter("restoring", max(at, first), end)
        reader = _Reader(consumer, changelog, end, stall_timeout_s, progress)
        if store.changelog_offset == NO_OFFSET or store.restoring:
            await _restore(reader, store, max(at, first), due_of, aside)
        else:
            await _catch_up(reader, store, max(at, first), due_of, aside)
    except CorruptRecordException as error:
        raise RecoveryError(
            f"{where}: the changelog is damaged on the broker: {error}; nothing is done with it:"
            " let another replica lead the partition, or use another app_id and replay the events"
        ) from error
    except KafkaError as error:
        raise RecoveryError(f"{where}: the changelog cannot be read: {error!r}") from error
    finally:
        await consumer.stop()
    stage("after_recovery")
    done = Recovery(reader.records, end, wiped, time.monotonic() - began)
    log.info(
        "state is up to date", changelog=where, records=done.records, seconds=round(done.seconds, 2)
    )
    return store, done


def _why_unusable(at: int, first: int, end: int) -> str:
    """Say why a store that continues at `at` does not fit a changelog of [first, end)."""
    if at > end:
        return (
            f"the local state contains offset {at - 1} but the changelog ends at {end}: it was"
            " truncated or is another one"
        )
    if 0 < at < first:
        return f"the local state ends at {at} but the changelog now begins at {first}"
    return ""


async def _restore(
    reader: "_Reader", store: RocksStore, at: int, due_of: DueOf, aside: Aside
) -> None:
    """Fill an empty store: records first, the timer index at the end."""
    if at >= reader.end and not store.restoring:
        store.apply((), (), reader.end - 1)
        return
    store.begin_restore()
    async for records, offset in reader.chunks(at):
        await aside(store.load, records, offset)
    await aside(store.end_restore, due_of, reader.end - 1)


async def _catch_up(
    reader: "_Reader", store: RocksStore, at: int, due_of: DueOf, aside: Aside
) -> None:
    """Write the newest changes over older ones."""
    async for records, offset in reader.chunks(at):
        await aside(store.merge, records, due_of, offset)
    if store.changelog_offset < reader.end - 1:
        store.apply((), (), reader.end - 1)


class _Reader:
    """Reads one changelog partition up to a fixed end."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        changelog: TopicPartition,
        end: int,
        stall_timeout_s: float,
        progress: Progress | None = None,
    ) -> None:
        self.end = end
        self._progress = progress or Progress()
        self.records = 0
        self._consumer = consumer
        self._tp = changelog
        self._where = f"{changelog.topic}-{changelog.partition}"
        self._stall_timeout_s = stall_timeout_s
        self._began = self._reported = self._progressed = time.monotonic()

    async def chunks(self, at: int) -> AsyncIterator[tuple[dict[bytes, bytes | None], int]]:
        """Yield ({key: latest value}, offset of the last record read) until the end."""
        if at >= self.end:
            return
        self._consumer.seek(self._tp, at)
        self._progressed = time.monotonic()
        empty_poll = None
        pending: dict[bytes, bytes | None] = {}
        held = 0
        while at < self.end:
            await async_stage("in_recovery")
            self._progress.check()
            fetched = await self._consumer.getmany(
                self._tp, timeout_ms=_POLL_MS, max_records=_CHUNK
            )
            position = await self._consumer.position(self._tp)
            if position > at:
                at, empty_poll, self._progressed = position, None, time.monotonic()
                self._progress.done = at
            elif self._nothing_left(empty_poll):
                break
            else:
                self._check_progress(at)
                empty_poll = empty_poll or self._consumer.last_poll_timestamp(self._tp)
            for record in fetched.get(self._tp, []):
                held += 1
                if record.key is not None and record.key[:1] in (USER_PREFIX, PARTITION_KEY):
                    pending[record.key] = record.value
            if held >= _CHUNK:
                self._count(held, at)
                yield pending, at - 1
                pending, held = {}, 0
        if held:
            self._count(held, at)
            yield pending, at - 1

    def _check_progress(self, at: int) -> None:
        if time.monotonic() - self._progressed > self._stall_timeout_s:
            raise RecoveryError(
                f"{self._where}: no progress for {self._stall_timeout_s:g} s at offset {at} of"
                f" {self.end}; check the broker and the changelog topic"
            )

    def _count(self, records: int, at: int) -> None:
        self.records += records
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
