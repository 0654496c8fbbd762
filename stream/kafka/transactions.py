"""What the cluster reports about transactions: how the last one ended, and where it is undecided.

The coordinator of Kafka 4.3.1 takes a partition without a leader for a deleted one: it answers a
commit, notes the transaction as complete, and never writes that partition's marker. What was
written there stays undecided until the producer id's next marker, whatever that says.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaClient, AIOKafkaProducer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    LeaderNotAvailableError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.transaction import EndTxnRequest

from stream.kafka.aiokafka_private import track_topic, will_mark
from stream.kafka.protocol import DescribeProducers, DescribeTransactions, Partitions

ANSWER_MS: Final = 10_000
_POLL_S: Final = 0.1
_TIME_S: Final = 5.0
_NOT_FOUND: Final = 105
"""Error code: no such transactional id."""
_LATEST, _EARLIEST = -1, -2
_COMMITTED_ONLY, _EVERYTHING = 1, 0
_COMMITTED: Final = {"PrepareCommit", "CompleteCommit"}
_ABORTED: Final = {"Ongoing", "PrepareAbort", "CompleteAbort", "PrepareEpochFence"}
"""An ongoing transaction is aborted when the next owner initialises the transactional id."""

Answer = TypeVar("Answer")


class Outcome(Enum):
    """How a transaction ended, or will end."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class LastTransaction:
    """What the coordinator notes of a transactional id."""

    state: str
    timeout_ms: int
    producer_id: int
    producer_epoch: int
    started_ms: int = -1
    """By the coordinator's clock; -1: it has ended."""

    @property
    def outcome(self) -> Outcome:
        """How it ended; unknown once the id was initialised again."""
        if self.state in _COMMITTED:
            return Outcome.COMMITTED
        return Outcome.ABORTED if self.state in _ABORTED else Outcome.UNKNOWN


@asynccontextmanager
async def connected(client_options: dict[str, Any]) -> AsyncIterator[AIOKafkaClient]:
    """Connect a client of its own."""
    client = AIOKafkaClient(**client_options, request_timeout_ms=ANSWER_MS)
    try:
        await client.bootstrap()
        yield client
    finally:
        await client.close()


async def patiently(
    client: AIOKafkaClient, ask: Callable[[], Awaitable[Answer]], within_s: float
) -> Answer:
    """Ask again while brokers come and go, as long as `within_s`; then raise what they raised.

    Raises:
        KafkaError: the answer will not change, or nothing else came in time.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    pause_s = 0.0  # a client that has just begun knows no leaders: metadata is all that it lacks
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.wait({asyncio.ensure_future(client.force_metadata_update())}, timeout=_POLL_S)
        await asyncio.sleep(pause_s)
        pause_s = _POLL_S


async def last_transaction(client: AIOKafkaClient, transactional_id: str) -> LastTransaction | None:
    """Return what the coordinator notes of the id; None: nothing, or it may not be asked.

    Raises:
        KafkaError: the coordinator does not answer.
    """
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
    try:
        answer = await client.send(node, DescribeTransactions(transactional_id))
    except (IncompatibleBrokerVersion, NotImplementedError):  # before Kafka 3.0
        return None
    (found,) = answer.to_object()["transactions"]
    code = found["error_code"]
    if code == _NOT_FOUND or for_code(code) is TransactionalIdAuthorizationFailed:
        return None
    if code:
        raise for_code(code)(transactional_id)
    return LastTransaction(
        found["state"],
        found["timeout_ms"],
        found["producer_id"],
        found["producer_epoch"],
        found["start_time_ms"],
    )


async def time_of_cluster(client_options: dict[str, Any], transactional_id: str) -> int | None:
    """Return the coordinator's time of when an open transaction began, ms; None: not known.

    Kafka tells its time nowhere else to a client whose records it refuses.
    """
    try:
        async with asyncio.timeout(_TIME_S), connected(client_options) as client:
            last = await last_transaction(client, transactional_id)
    except (KafkaError, TimeoutError):
        return None
    return last.started_ms if last is not None and last.started_ms > 0 else None


async def end_transaction(
    client: AIOKafkaClient, transactional_id: str, last: LastTransaction
) -> None:
    """Commit an ongoing transaction in the name of the producer that began it.

    Raises:
        KafkaError: the coordinator refuses.
    """
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
    request = EndTxnRequest(transactional_id, last.producer_id, last.producer_epoch, True)
    code = (await client.send(node, request)).error_code
    if code:
        raise for_code(code)(transactional_id)


async def existing(
    client: AIOKafkaClient, partitions: Iterable[TopicPartition]
) -> list[TopicPartition]:
    """Return those of the partitions that exist, and learn their leaders."""
    asked = list(partitions)
    for tp in asked:
        track_topic(client, tp.topic)
    await client.force_metadata_update()
    known = client.cluster.partitions_for_topic
    return [tp for tp in asked if tp.partition in (known(tp.topic) or ())]


async def stable_ends(
    client: AIOKafkaClient, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the last stable offset of each: the end of what a read_committed consumer sees.

    Raises:
        KafkaError: a partition has no leader, or its leader does not answer.
    """
    return await _offsets(client, partitions, _LATEST, _COMMITTED_ONLY)


async def first_offsets(
    client: AIOKafkaClient, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the first offset of each.

    Raises:
        KafkaError: a partition has no leader, or its leader does not answer.
    """
    return await _offsets(client, partitions, _EARLIEST, _EVERYTHING)


async def unstable(
    client: AIOKafkaClient, partitions: Iterable[TopicPartition]
) -> list[TopicPartition]:
    """Return those in which some producer's transaction is undecided.

    Raises:
        KafkaError: a partition has no leader, or its leader does not answer.
    """
    asked = list(partitions)
    stable = await _offsets(client, asked, _LATEST, _COMMITTED_ONLY)
    ends = await _offsets(client, asked, _LATEST, _EVERYTHING)
    return [tp for tp in asked if stable[tp] < ends[tp]]


async def undecided(
    client: AIOKafkaClient, producer_id: int, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """Return where the producer's transaction begins, of the partitions in which it is undecided.

    None stands for a partition whose producers this client may not see (Read on the topic).

    Raises:
        KafkaError: a partition has no leader, or its leader does not answer.
    """
    found: dict[TopicPartition, int | None] = {}
    for node, asked in _by_leader(client, partitions).items():
        try:
            answer = await client.send(node, DescribeProducers(_by_topic(asked)))
        except (IncompatibleBrokerVersion, NotImplementedError):  # before Kafka 2.8
            found |= dict.fromkeys(asked)
            continue
        for topic in answer.to_object()["topics"]:
            for each in topic["partitions"]:
                tp = TopicPartition(topic["topic"], each["partition"])
                error = for_code(each["error_code"])
                if error is TopicAuthorizationFailedError:
                    found[tp] = None
                    continue
                _check(each["error_code"], tp)
                for producer in each["producers"]:
                    begin = producer["transaction_start"]
                    if producer["producer_id"] == producer_id and begin >= 0:
                        found[tp] = begin
    return found


async def write_markers(
    producer: AIOKafkaProducer, partitions: Iterable[TopicPartition], outcome: Outcome
) -> None:
    """Run a transaction that writes nothing but the markers of these partitions.

    Raises:
        KafkaError: it failed.
    """
    await producer.begin_transaction()
    for tp in partitions:
        will_mark(producer, tp)
    if outcome is Outcome.COMMITTED:
        await producer.commit_transaction()
    else:
        await producer.abort_transaction()


async def _offsets(
    client: AIOKafkaClient, partitions: Iterable[TopicPartition], at: int, isolation: int
) -> dict[TopicPartition, int]:
    offsets: dict[TopicPartition, int] = {}
    for node, asked in _by_leader(client, partitions).items():
        topics = [(topic, [(p, at) for p in numbers]) for topic, numbers in _by_topic(asked)]
        answer = await client.send(node, OffsetRequest(-1, isolation, topics))
        for topic, found in answer.topics:
            for partition, code, _, offset in found:
                tp = TopicPartition(topic, partition)
                _check(code, tp)
                offsets[tp] = offset
    return offsets


def _by_leader(
    client: AIOKafkaClient, partitions: Iterable[TopicPartition]
) -> dict[int, list[TopicPartition]]:
    nodes: dict[int, list[TopicPartition]] = {}
    for tp in partitions:
        leader = client.cluster.leader_for_partition(tp)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"{tp.topic}-{tp.partition} has no leader")
        nodes.setdefault(leader, []).append(tp)
    return nodes


def _by_topic(partitions: Iterable[TopicPartition]) -> Partitions:
    topics: dict[str, list[int]] = {}
    for tp in partitions:
        topics.setdefault(tp.topic, []).append(tp.partition)
    return list(topics.items())


def _check(code: int, tp: TopicPartition) -> None:
    if code:
        raise for_code(code)(f"{tp.topic}-{tp.partition}")
