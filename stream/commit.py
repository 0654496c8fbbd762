"""What makes an outbox durable: the transaction (exactly once) and its at-least-once twin.

A committer belongs to one partition. After any error it is dead, because nobody knows what the
broker has: the partition closes it, forgets its memory and opens again from what is durable.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
    UnknownMemberIdError,
)

from stream.clients import STOP_TIMEOUT_S, failure_of, stop_producer
from stream.errors import CommitError, CommitFenced
from stream.faults import stage
from stream.outbox import Outbox, Outputs
from stream.sending import (
    MAX_BATCH_BYTES,
    REFUSED,
    all_of,
    nothing,
    reason_of,
    send_records,
)

TRANSACTION_TIMEOUT_MS: Final = 300_000
"""How long the broker lets a transaction stay open. A successor ends it at once, so this only has
to outlast a stalled broker."""
START_TIMEOUT_S: Final = 60.0
CONFIRM_TIMEOUT_S: Final = 3.0
FENCE_KEY: Final = b"f"
"""Changelog key of the record that shuts out earlier owners; not part of any state."""
_FENCED: Final = (
    ProducerFenced,
    InvalidProducerEpoch,
    CommitFailedError,
    IllegalGenerationError,
    UnknownMemberIdError,
)

log = structlog.get_logger(__name__)

CommitOffset = Callable[[TopicPartition, int], Awaitable[None]]
"""Commits a source offset for the consumer group; refused when the member is no longer in it."""


class Committer(Protocol):
    """Makes outboxes durable, one at a time, in order."""

    async def start(self) -> None:
        """Shut out every earlier owner of the partition; nothing is read before this."""

    def send(self, outputs: Outputs) -> None:
        """Begin to send outputs ahead of the commit that covers them, at least once only.

        Returns at once; the next `commit` waits for them and raises what went wrong.
        """

    async def commit(self, outbox: Outbox) -> int:
        """Make all of the outbox durable, or raise.

        Returns:
            Offset of its last changelog record, -1 when it has none.

        Raises:
            CommitFenced: somebody else owns the partition now.
            RecordTooLarge: the broker refuses a record's size.
            CommitError: anything else.
        """

    async def confirm(self, offset: int) -> None:
        """Find out whether the partition, committed up to `offset`, is still ours.

        Raises:
            CommitFenced: somebody else owns it.
        """

    async def close(self) -> None:
        """Release the connections; an open transaction is left to the successor to abort."""


class _Committer:
    """What both guarantees share: one producer, dead after its first error."""

    def __init__(
        self,
        client_options: dict[str, Any],
        *,
        app_id: str,
        source: TopicPartition,
        changelog: str,
    ) -> None:
        """`client_options` are those of every Kafka client of the worker."""
        self._group = app_id
        self._options = {
            **client_options,
            "acks": "all",
            "linger_ms": 0,
            "max_batch_size": MAX_BATCH_BYTES,
            "max_request_size": MAX_BATCH_BYTES,
            "retry_backoff_ms": 20,
        }
        self._source = source
        self._where = f"{source.topic}-{source.partition}"
        self._changelog = changelog
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect, and shut out every earlier owner of the partition where there is a way to.

        Raises:
            ClusterUnreachable: no broker answers.
            CommitError: it answers too late or does not permit it.
        """
        started: list[AIOKafkaProducer] = []
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self._producer = await self._started(started)
        except (KafkaError, TimeoutError) as error:
            for producer in started:
                await stop_producer(producer)
            raise failure_of(error, CommitError)(
                f"{self._where}: the producer cannot start: {error!r}; check the broker and the"
                " ACLs of the transactional id"
            ) from error

    async def _started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """Return the producer ready; each one that is made is noted in `started`."""
        raise NotImplementedError

    async def _transactional(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """Initialise the transactional id: fences its holder and ends its open transaction."""
        producer = AIOKafkaProducer(
            transactional_id=f"{self._group}-{self._source.partition}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **self._options,
        )
        started.append(producer)
        await producer.start()
        return producer

    async def commit(self, outbox: Outbox) -> int:
        """Make all of the outbox durable, or raise; see `Committer.commit`."""
        producer = self._producer
        if producer is None:
            raise CommitError(f"{self._where}: the committer is not started or has failed")
        try:
            return await self._commit(producer, outbox)
        except BaseException as raised:
            self._producer = None
            error = reason_of(producer, raised)
            await stop_producer(producer)
            if isinstance(error, _FENCED):
                raise CommitFenced(
                    f"{self._where}: another worker took the partition over, or the transaction"
                    f" outlasted {TRANSACTION_TIMEOUT_MS // 1000} s; this worker changes nothing"
                    " any more"
                ) from error
            if isinstance(error, (KafkaError, *REFUSED)):
                raise CommitError(f"{self._where}: the commit failed: {error!r}") from error
            raise

    async def confirm(self, offset: int) -> None:
        """Find out whether the partition is still ours; see `Committer.confirm`.

        A cluster that gives no answer in time says nothing about that.
        """
        if self._producer is None:
            return
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                await self.commit(self._confirmation(offset))
        except CommitFenced:
            raise
        except (CommitError, TimeoutError) as error:
            log.warning(
                "nobody says whose partition it is", partition=self._where, error=str(error)
            )

    def send(self, outputs: Outputs) -> None:
        """Refuse: what is sent must not be seen before the commit; see `Committer.send`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Release the connections; an open transaction is left to the successor to abort."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)

    async def _commit(self, producer: AIOKafkaProducer, outbox: Outbox) -> int:
        raise NotImplementedError

    def _confirmation(self, offset: int) -> Outbox:
        """Return something that changes nothing, and that only the owner can commit."""
        raise NotImplementedError


class ExactlyOnce(_Committer):
    """One Kafka transaction per outbox: changelog, outputs and the source offset, or nothing."""

    async def _started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        return await self._transactional(started)

    async def _commit(self, producer: AIOKafkaProducer, outbox: Outbox) -> int:
        await producer.begin_transaction()
        partition = self._source.partition
        sending = [
            send_records(producer, self._changelog, partition, outbox.changelog),
            *(
                send_records(producer, topic, partition, records)
                for topic, records in outbox.outputs.items()
            ),
        ]
        if outbox.next_offset is not None:
            offsets = {self._source: outbox.next_offset}
            sending.append(nothing(producer.send_offsets_to_transaction(offsets, self._group)))
        last_offset, *_ = await all_of(sending)
        stage("in_transaction")
        await producer.commit_transaction()
        return last_offset

    def _confirmation(self, offset: int) -> Outbox:
        return Outbox({}, [], [], offset, 0)


class AtLeastOnce(_Committer):
    """Outputs, then the changelog, then the source offset, each sent when the one before is safe.

    Outputs go out as they come; the changelog and the offset follow once per commit interval.

    What is repeated after a failure is byte-identical and carries the same ids. An owner that was
    suspended and wakes up must still not overwrite its successor's changelog. So the producer id
    and epoch are those of the partition's transactional id, which every successor raises, and a
    first record in the changelog makes its leader refuse the epochs before.
    """

    def __init__(
        self,
        client_options: dict[str, Any],
        *,
        app_id: str,
        source: TopicPartition,
        changelog: str,
        commit_offset: CommitOffset,
    ) -> None:
        """`commit_offset` must refuse when this worker has left the consumer group."""
        super().__init__(client_options, app_id=app_id, source=source, changelog=changelog)
        self._commit_offset = commit_offset
        self._ahead: list[Outputs] = []
        self._sending: asyncio.Task[None] | None = None
        self._offset_due: int | None = None
        self._offsetting: asyncio.Task[None] | None = None

    async def _started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        owner = await self._transactional(started)
        identity = owner._txn_manager  # noqa: SLF001  # aiokafka has no other way to learn it
        await stop_producer(owner)
        producer = AIOKafkaProducer(enable_idempotence=True, **self._options)
        started.append(producer)
        producer._txn_manager.set_pid_and_epoch(  # noqa: SLF001
            identity.producer_id, identity.producer_epoch
        )
        await producer.start()
        await send_records(producer, self._changelog, self._source.partition, [(FENCE_KEY, b"")])
        return producer

    async def _commit(self, producer: AIOKafkaProducer, outbox: Outbox) -> int:
        if self._offsetting is not None and self._offsetting.done():
            await self._settle_offset()
        self.send(outbox.outputs)
        await self._settle_sending()
        stage("in_transaction")
        partition = self._source.partition
        last_offset = await send_records(producer, self._changelog, partition, outbox.changelog)
        if outbox.next_offset is not None:
            self._offset_due = outbox.next_offset
            if self._offsetting is None or self._offsetting.done():
                await self._settle_offset()
                self._offsetting = asyncio.create_task(self._commit_offsets())
        return last_offset

    def _confirmation(self, offset: int) -> Outbox:
        del offset
        return Outbox({}, [(FENCE_KEY, b"")], [], None, 0)

    def send(self, outputs: Outputs) -> None:
        """Begin to send outputs ahead of their commit; see `Committer.send`."""
        if outputs:
            self._ahead.append(outputs)
        task = self._sending
        if self._ahead and (task is None or (task.done() and task.exception() is None)):
            self._sending = asyncio.create_task(self._send_ahead())

    async def _send_ahead(self) -> None:
        """Send what has gathered, again while there is more: one request is on its way at a time.

        Failures stay in the task: the commit that covers the outputs raises them.
        """
        while self._ahead and self._producer is not None:
            gathered, self._ahead = self._ahead, []
            topics: Outputs = {}
            for outputs in gathered:
                for topic, records in outputs.items():
                    topics.setdefault(topic, []).extend(records)
            await all_of(
                [
                    send_records(self._producer, topic, self._source.partition, records)
                    for topic, records in topics.items()
                ]
            )

    async def _settle_sending(self) -> None:
        while (task := self._sending) is not None:
            await asyncio.shield(task)
            self._sending = None
            self.send({})

    async def close(self) -> None:
        """Commit the last offset, then release the connections."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        with contextlib.suppress(KafkaError, TimeoutError):
            await self._settle_offset()
        await super().close()

    async def _settle_offset(self) -> None:
        task, self._offsetting = self._offsetting, None
        if task is not None:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await task

    async def _commit_offsets(self) -> None:
        """Commit the newest offset, again while there is a newer one.

        Nothing waits for it: the changelog holds the offset too, and a partition starts from the
        greater of the two.
        """
        while (offset := self._offset_due) is not None:
            self._offset_due = None
            await self._commit_offset(self._source, offset)
