"""What makes an outbox durable, and what both guarantees share of it.

A committer belongs to one partition. After any error it is dead, because nobody knows what the
broker has: the partition closes it, forgets its memory and opens again from what is durable.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Protocol

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    InvalidProducerEpoch,
    InvalidTimestampError,
    KafkaError,
    ProducerFenced,
    UnknownMemberIdError,
)

from stream.errors import (
    ClockRefused,
    ClusterUnreachable,
    CommitError,
    CommitFenced,
    TransactionUndecided,
)
from stream.kafka.aiokafka_private import transactional_id_of
from stream.kafka.clients import failure_of, stop_producer
from stream.kafka.clock import clock_is_wrong
from stream.kafka.markers import TRANSACTION_TIMEOUT_MS, decide, take_over
from stream.kafka.sending import MAX_BATCH_BYTES, REFUSED, reason_of
from stream.kafka.transactions import Outcome, time_of_cluster
from stream.pipeline.outbox import Outbox, Outputs

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

    async def settle(self, changelog_offset: int) -> None:
        """Decide what an earlier owner's last transaction left undecided; before anything is read.

        Args:
            changelog_offset: of the last changelog record in the local state, -1 if none: what is
                there was committed.

        Raises:
            ClusterUnreachable: a partition has no leader.
            TransactionUndecided: nothing tells whether it was committed.
        """

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
            ClockRefused: it refuses a record's timestamp.
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
        outputs: Iterable[str] = (),
    ) -> None:
        """Connect to nothing yet.

        Args:
            client_options: those of every Kafka client of the worker.
            app_id: consumer group, and begin of the transactional id.
            source: partition whose offsets are committed.
            changelog: topic of the state; its partition has the source's number.
            outputs: topics written to, in the partition of the same number.
        """
        self.group = app_id
        self.options_of_clients = client_options
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
        self._transactional_id = f"{app_id}-{source.partition}"
        self._written = [TopicPartition(name, source.partition) for name in (changelog, *outputs)]
        self._undecided: dict[TopicPartition, int | None] = {}

    async def start(self) -> None:
        """Connect, and shut out every earlier owner of the partition where there is a way to.

        Raises:
            ClusterUnreachable: no broker answers.
            ClockRefused: the broker refuses a record's timestamp.
            CommitError: it answers too late or does not permit it.
        """
        started: list[AIOKafkaProducer] = []
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.producer = await self.started(started)
        except BaseException as error:
            for producer in started:
                await stop_producer(producer)
            if not isinstance(error, KafkaError | TimeoutError):
                raise
            raise failure_of(error, CommitError)(
                f"{self._where}: the producer cannot start: {error!r}; check the broker and the"
                " ACLs of the transactional id"
            ) from error

    async def started(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """Return the producer ready; each one that is made is noted in `started`."""
        raise NotImplementedError

    async def transactional(self, started: list[AIOKafkaProducer]) -> AIOKafkaProducer:
        """Initialise the transactional id: fences its holder and ends its open transaction.

        Where that one, or the one before, is left without a marker, it gets it here.
        """

        def new_producer(timeout_ms: int) -> AIOKafkaProducer:
            made = AIOKafkaProducer(
                transactional_id=self._transactional_id,
                transaction_timeout_ms=timeout_ms,
                **self.options,
            )
            started.append(made)
            return made

        producer, self._undecided = await take_over(
            new_producer, self.options_of_clients, self._transactional_id, self._written
        )
        return producer

    async def settle(self, changelog_offset: int) -> None:
        """Decide what an earlier owner left undecided; see `Committer.settle`."""
        # Where the client may not see the producers another app's transaction is the likelier one.
        left = {tp: begin for tp, begin in self._undecided.items() if begin is not None}
        producer = self.producer
        if not left or producer is None:
            return
        begin = left.get(TopicPartition(self.changelog, self.source.partition))
        # At least once has no transactions.
        if transactional_id_of(producer) is None or begin is None or changelog_offset < begin:
            places = sorted(f"{tp.topic}-{tp.partition} at {at}" for tp, at in left.items())
            raise TransactionUndecided(
                f"{self._where}: the last transaction of {self._transactional_id} has no marker in"
                f" {', '.join(places)}, and nothing tells whether it was committed: compare the"
                " group's offset with the source offsets of the messages there; if it lies before"
                " them, end the transaction with `kafka-transactions.sh abort` and start again"
            )
        try:
            await decide(producer, self._written, Outcome.COMMITTED)
        except KafkaError as error:
            raise failure_of(error, CommitError)(
                f"{self._where}: the last transaction's markers cannot be written: {error!r}"
            ) from error
        self._undecided = {}

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
            if isinstance(error, (InvalidTimestampError, ClockRefused)):
                # The refused transaction is still open, and its coordinator noted when it began.
                theirs = await time_of_cluster(self.options_of_clients, self._transactional_id)
                where = error.where if isinstance(error, ClockRefused) else None
                raise ClockRefused(clock_is_wrong(where or self._where, theirs), where) from error
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
        except (ClusterUnreachable, CommitError, TimeoutError) as error:
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
