"""Every transaction gets its marker in every partition, also where the cluster forgets to write it.

Kafka's coordinator acknowledges a commit while a partition has no leader and never writes that
partition's marker (`stream/kafka/transactions.py`). A subscriber sees those records when the
producer id's next marker comes, or never, if it is an abort. So no transaction begins before the
one before it is decided everywhere, and an owner that opens a partition decides what its
predecessor's last transaction left undecided, as the coordinator ended it.

Initialising the transactional id makes the coordinator forget how the last transaction ended. The
transaction timeout is what it keeps: it carries the outcome until all markers are there, so that an
opening that is killed halfway leaves nothing to guess.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stream.errors import ClusterUnreachable
from stream.kafka.aiokafka_private import producer_identity, transactional_id_of
from stream.kafka.clients import stop_producer
from stream.kafka.transactions import (
    Outcome,
    connected,
    end_transaction,
    existing,
    last_transaction,
    patiently,
    stable_ends,
    undecided,
    unstable,
    write_markers,
)

TRANSACTION_TIMEOUT_MS: Final = 300_000
"""How long the broker lets a transaction stay open. A successor ends it at once, so this only has
to outlast a stalled broker."""
REPAIR_TIMEOUT_MS: Final = {
    Outcome.COMMITTED: TRANSACTION_TIMEOUT_MS + 1,
    Outcome.ABORTED: TRANSACTION_TIMEOUT_MS + 2,
}
"""Time-outs of producers that only write markers: they tell a successor which."""
_CARRIED: Final = {timeout_ms: outcome for outcome, timeout_ms in REPAIR_TIMEOUT_MS.items()}
_PENDING: Final = {"Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"}
_ANSWER_S: Final = 30.0
_ARRIVE_S: Final = 3.0
"""Markers are written after the commit is answered, within milliseconds."""
_FIRST_LOOK_S, _LAST_PAUSE_S = 0.01, 0.5

log = structlog.get_logger(__name__)

Written = Mapping[TopicPartition, tuple[int, int]]
"""Partition -> (offset of the last record of a transaction, how many it has there)."""


async def outcome_before(
    client_options: dict[str, Any], transactional_id: str, partitions: Iterable[TopicPartition]
) -> tuple[Outcome, bool]:
    """Return how the last transaction of an earlier owner ended, and if it may be undecided.

    Called before the id is initialised, and not before all partitions have leaders: what the
    coordinator aborts while one has none would be undecided again.

    Raises:
        KafkaError: the cluster does not answer, or refuses.
    """
    async with connected(client_options) as client:
        there = await existing(client, partitions)
        waiting = await patiently(client, lambda: unstable(client, there), _ANSWER_S)
        last = await patiently(
            client, lambda: last_transaction(client, transactional_id), _ANSWER_S
        )
        if last is None:
            return Outcome.UNKNOWN, bool(waiting)
        carried = _CARRIED.get(last.timeout_ms)
        if carried is Outcome.COMMITTED and last.state == "Ongoing":
            # Markers of a commit, which the next owner's initialisation would turn into aborts.
            await patiently(
                client, lambda: end_transaction(client, transactional_id, last), _ANSWER_S
            )
        return carried or last.outcome, bool(waiting) or last.state in _PENDING


async def take_over(
    new_producer: Callable[[int], AIOKafkaProducer],
    client_options: dict[str, Any],
    transactional_id: str,
    partitions: Sequence[TopicPartition],
    timeout_ms: int = TRANSACTION_TIMEOUT_MS,
) -> tuple[AIOKafkaProducer, dict[TopicPartition, int | None]]:
    """Initialise a transactional id: fences its holder, ends and decides its last transaction.

    Args:
        new_producer: makes a producer of the id with a transaction timeout, ms; the caller stops
            all that it makes.
        client_options: those of every Kafka client of the process.
        transactional_id: the producers'.
        partitions: all that its transactions write to.
        timeout_ms: of the transactions to come.

    Returns:
        The producer, and what is still undecided, as in `waiting_partitions`: the coordinator
        could not tell how the last transaction ended.

    Raises:
        ClusterUnreachable: a marker does not get there.
        KafkaError: the cluster does not answer, or refuses.
    """
    outcome, open_before = await outcome_before(client_options, transactional_id, partitions)
    if open_before and outcome is not Outcome.UNKNOWN:
        repairing = new_producer(REPAIR_TIMEOUT_MS[outcome])
        await repairing.start()
        await decide(repairing, partitions, outcome)
        await stop_producer(repairing)
    producer = new_producer(timeout_ms)
    await producer.start()
    return producer, await waiting_partitions(producer, partitions)


async def waiting_partitions(
    producer: AIOKafkaProducer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """Return where a transaction of this producer id is undecided, and where it begins there.

    None stands for a partition whose producers the client may not see; another's may be meant.

    Raises:
        KafkaError: the cluster does not answer.
    """
    client = producer.client
    there = await existing(client, partitions)
    open_ones = await patiently(client, lambda: unstable(client, there), _ANSWER_S)
    producer_id, _ = producer_identity(producer)
    return await patiently(client, lambda: undecided(client, producer_id, open_ones), _ANSWER_S)


async def decide(
    producer: AIOKafkaProducer, partitions: Iterable[TopicPartition], outcome: Outcome
) -> None:
    """Write markers until none of the partitions waits for one of this producer id.

    Raises:
        ClusterUnreachable: some do not get there.
        KafkaError: the cluster does not answer, or refuses.
    """
    asked = set(partitions)
    deadline = asyncio.get_running_loop().time() + _ANSWER_S
    while left := await waiting_partitions(producer, asked):
        if asyncio.get_running_loop().time() > deadline:
            raise ClusterUnreachable(f"{_names(left)}: a transaction's marker does not get there")
        log.warning(
            "a transaction ended without its markers: they are written now",
            partitions=_names(left),
            outcome=outcome.value,
        )
        await write_markers(producer, left, outcome)
        # Where the client may not see the producers one marker has to do.
        asked = {tp for tp, start in left.items() if start is not None}
        arriving = asyncio.get_running_loop().time() + _ARRIVE_S
        while asyncio.get_running_loop().time() < arriving:
            if not await waiting_partitions(producer, asked):
                break
            await asyncio.sleep(_FIRST_LOOK_S)


async def arrived(producer: AIOKafkaProducer, written: Written) -> None:
    """Wait until an acknowledged commit is decided wherever it wrote.

    Raises:
        ClusterUnreachable: a marker is missing; the next opening of the partition writes it.
        KafkaError: the cluster refuses.
    """
    client, pause = producer.client, _FIRST_LOOK_S
    began = asyncio.get_running_loop().time()
    while written:
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE_S)
        try:
            ends = await stable_ends(client, written)
            written = {tp: at for tp, at in written.items() if ends[tp] <= at[0]}
            if not written or asyncio.get_running_loop().time() - began < _ARRIVE_S:
                continue
            if await _on_its_way(producer):
                continue
            producer_id, _ = producer_identity(producer)
            open_ones = await undecided(client, producer_id, written)
        except KafkaError as error:
            if not error.retriable:
                raise
            client.force_metadata_update()
            continue
        missing = {
            tp
            for tp, start in open_ones.items()
            # The stable end is the beginning of the first open transaction, ours if it is as long.
            if start is not None or ends[tp] > written[tp][0] - written[tp][1]
        }
        if missing:
            raise ClusterUnreachable(
                f"{_names(missing)}: the cluster acknowledged a commit and did not write its"
                " marker, because a partition had no leader then; the next owner of the"
                " transactional id writes it"
            )
        return


async def _on_its_way(producer: AIOKafkaProducer) -> bool:
    """Whether the coordinator still has markers to write."""
    transactional_id = transactional_id_of(producer)
    if transactional_id is None:
        return False
    last = await last_transaction(producer.client, transactional_id)
    return last is not None and last.state == "PrepareCommit"


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(sorted(f"{tp.topic}-{tp.partition}" for tp in partitions))
