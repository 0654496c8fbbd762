"""What makes an outbox durable, and what both guarantees share of it.

A committer belongs to one partition. After any error it is dead, because nobody knows what the
broker has: the partition closes it, forgets its memory and opens again from what is durable.
"""

import asyncio
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

from stream.errors import CommitError, CommitFenced
from stream.kafka.clients import failure_of, stop_producer
from stream.kafka.sending import MAX_BATCH_BYTES, REFUSED, reason_of
from stream.pipeline.outbox import Outbox, Outputs

TRANSACTION_TIMEOUT_MS: Final = 300_000
"""How long the broker lets a transaction stay open. A successor ends it at once, so this only has
to outlast a stalled broker."""
START_TIMEOUT_S: Final = 60.0
CONFIRM_TIMEOUT_S: Final = 3.0
_FENCED: Final = (
    ProducerFenced,
    InvalidProducerEpoch,
    CommitFailedError,
    IllegalGenerationError,
    UnknownMemberIdError,
)

log = structlog.get_logger(__name__)


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


class OneProducer:
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
        self.group = app_id
        self.options = {
            **client_options,
            "acks": "all",
            "linger_ms": 0,
            "max_batch_size": MAX_BATCH_BYTES,
            "max_request_size": MAX_BATCH_BYTES,
            "retry_backoff_ms": 20,
        }
        self.source = source
        self._where = f"{source.topic}-{source.partition}"
        self.changelog = changelog
        self.producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect, and shut out every earlier owner of the partition where there is a way to.

        Raises:
            ClusterUnreachable: no broker answers.
            CommitError: it answers too late or does not permit it.
        """
        started: list[AIOKafkaProducer] = []
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.producer = await self.started(started)
        except (KafkaError, TimeoutError) as error:
            for producer in started:
                await stop_producer(producer)
            raise failure_of(error, CommitError)(
                f"{self._where}: the producer cannot start: {error!r}; check the broker and the"
                " ACLs of the transactional id"
            ) from error

    async def started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """Return the producer ready; each one that is made is noted in `started`."""
        raise NotImplementedError

    async def transactional(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """Initialise the transactional id: fences its holder and ends its open transaction."""
        producer = AIOKafkaProducer(
            transactional_id=f"{self.group}-{self.source.partition}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **self.options,
        )
        started.append(producer)
        await producer.start()
        return producer

    async def commit(self, outbox: Outbox) -> int:
        """Make all of the outbox durable, or raise; see `Committer.commit`."""
        return await self._commit(outbox, "in_transaction")

    async def _commit(self, outbox: Outbox, place: str) -> int:
        producer = self.producer
        if producer is None:
            raise CommitError(f"{self._where}: the committer is not started or has failed")
        try:
            return await self.make_durable(producer, outbox, place)
        except BaseException as raised:
            self.producer = None
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
        if self.producer is None:
            return
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                await self._commit(self.confirmation(offset), "in_confirmation")
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
        producer, self.producer = self.producer, None
        if producer is not None:
            await stop_producer(producer)

    async def make_durable(self, producer: AIOKafkaProducer, outbox: Outbox, place: str) -> int:
        """Write the outbox; return the offset of its last changelog record, -1 if it has none.

        `place`: which of `stream.faults` is passed on the way, before anything is committed.
        """
        raise NotImplementedError

    def confirmation(self, offset: int) -> Outbox:
        """Return something that changes nothing, and that only the owner can commit."""
        raise NotImplementedError
