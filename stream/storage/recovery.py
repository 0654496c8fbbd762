"""Changelog -> RocksDB: brings a partition's store up to the end of its changelog.

Called after the partition's transactional producer is initialised. From then on nobody else can
write to the changelog partition and no transaction is open, so its end is fixed.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.errors import LogUnreadable, RecoveryError
from stream.faults import stage
from stream.health.vitals import Progress
from stream.kafka.aiokafka_private import client_of
from stream.kafka.clients import failure_of, stop_consumer
from stream.kafka.responses import Part, Response
from stream.kafka.transactions import patiently, stable_ends, unstable
from stream.pipeline.due_times import DueOf
from stream.pipeline.records import Records
from stream.storage.changelog import STATE, ChangelogReader
from stream.storage.restoring import Restoring
from stream.storage.store import NO_OFFSET, RocksStore

STALL_TIMEOUT_S: Final = 60.0
"""A changelog that yields nothing for this long although it has not ended is given up."""
_POLL_MS: Final = 500
_FETCH_BYTES: Final = 16 << 20

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
        due_of: due times that user records ask for; rebuilds the timer index.
        reset: closes and wipes the store and opens an empty one.
        stall_timeout_s: give up after this long without progress.
        aside: runs what waits for the disk.
        progress: told how far it is.

    Returns:
        The store to go on with, and what was done.

    Raises:
        ClusterUnreachable: nobody answers.
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
        fetch_max_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=_POLL_MS,
        **client_options,
    )
    try:
        await consumer.start()
        consumer.assign([changelog])
        await _check_decided(consumer, changelog)
        first = (await consumer.beginning_offsets([changelog]))[changelog]
        end = (await consumer.end_offsets([changelog]))[changelog]
        at, wiped = store.changelog_offset + 1, False
        if at > end:
            raise RecoveryError(
                f"{where}: the local state contains offset {at - 1} but the changelog ends at"
                f" {end}: it was deleted and created again, or lost its end (unclean leader"
                " election); both are left as they are: use a new app_id and replay the events, or"
                f" move the folder {store.path} away to go on with what the changelog holds"
            )
        reason = _why_unusable(at, first)
        if reason:
            log.warning("state is wiped and restored", changelog=where, reason=reason)
            store, at, wiped = reset(), 0, True
        progress.enter("restoring", max(at, first), end)
        reader = ChangelogReader(consumer, changelog, end, stall_timeout_s, progress)
        if store.changelog_offset == NO_OFFSET or store.restoring:
            await _restore(reader, store, max(at, first), due_of, aside)
        else:
            await _catch_up(reader, store, max(at, first), due_of, aside)
    except LogUnreadable as error:
        raise RecoveryError(
            f"the changelog cannot be read: {error}; nothing is done with it; with another app_id"
            " the events can be replayed"
        ) from error
    except KafkaError as error:
        raise failure_of(error, RecoveryError)(
            f"{where}: the changelog cannot be read: {error!r}"
        ) from error
    finally:
        await stop_consumer(consumer)
    stage("after_recovery")
    done = Recovery(reader.records, end, wiped, time.monotonic() - began)
    log.info(
        "state is up to date", changelog=where, records=done.records, seconds=round(done.seconds, 2)
    )
    return store, done


async def _check_decided(consumer: AIOKafkaConsumer, changelog: TopicPartition) -> None:
    """Check that no transaction hides the end of the changelog.

    Raises:
        RecoveryError: one of a producer that is gone does.
    """
    client = client_of(consumer)
    if await patiently(client, lambda: unstable(client, [changelog]), STALL_TIMEOUT_S):
        where = f"{changelog.topic}-{changelog.partition}"
        end = (await stable_ends(client, [changelog]))[changelog]
        raise RecoveryError(
            f"{where}: a transaction is open from offset {end} on, of a producer that is not this"
            " partition's any more; nothing is done with it: find it with"
            f" `kafka-transactions.sh describe-producers --topic {changelog.topic} --partition"
            f" {changelog.partition}`, and end it with its `abort`"
        )


def _why_unusable(at: int, first: int) -> str:
    """Say why a store that continues at `at` does not fit a changelog that begins at `first`."""
    if 0 < at < first:
        return f"the local state ends at {at} but the changelog now begins at {first}"
    return ""


async def _restore(
    reader: ChangelogReader, store: RocksStore, at: int, due_of: DueOf, aside: Aside
) -> None:
    """Fill an empty store: records first, the timer index at the end."""
    if at >= reader.end and not store.restoring:
        store.apply((), (), reader.end - 1)
        return
    restoring = Restoring(store, due_of)

    def absorb(part: Part) -> None:
        restoring.take(part.records, part.end - 1)

    try:
        await _settled(aside(restoring.begin))
        await _feed(reader, at, aside, absorb)
        reader.progress.enter("building the timer index")
        await _settled(aside(restoring.finish, reader.end - 1, reader.progress))
    finally:
        await _settled(aside(restoring.close))


async def _catch_up(
    reader: ChangelogReader, store: RocksStore, at: int, due_of: DueOf, aside: Aside
) -> None:
    """Write the newest changes over older ones."""

    def absorb(part: Part) -> None:
        store.merge(newest_values(part.records), due_of, part.end - 1)

    await _feed(reader, at, aside, absorb)
    if store.changelog_offset < reader.end - 1:
        store.apply((), (), reader.end - 1)


async def _feed(
    reader: ChangelogReader, at: int, aside: Aside, absorb: Callable[[Part], None]
) -> None:
    """Write what is read while more of it is on its way."""

    def counted(response: Response) -> None:
        for part in response.parts():
            absorb(part)
            reader.records += len(part.records)

    async with contextlib.aclosing(reader.responses(at)) as responses:
        writing: asyncio.Future[Any] | None = None
        try:
            async for response in responses:
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(aside(counted, response))
        finally:
            if writing is not None:
                await _settled(writing)


def newest_values(records: Records) -> dict[bytes, bytes | None]:
    """Return the last value of each key that is state; None where the key was deleted."""
    return dict(records.newest(STATE))


async def _settled(work: Awaitable[Any]) -> None:
    """Wait for another thread's work, also when cancelled: it holds the store."""
    future = asyncio.ensure_future(work)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise
