"""The private attributes of aiokafka that this product uses: all of them are here.

aiokafka promises nothing about them, so pyproject.toml bounds its version, and the test module of
this one tries each function with the real library. Each docstring says why the public interface
does not do. What `batches.py` derives from aiokafka's classes is not among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import ConsumerStoppedError
from aiokafka.protocol.group import LeaveGroupRequest

__all__ = [
    "Fetched",
    "check_usable",
    "client_of",
    "end_fetches",
    "fetch_waiter",
    "is_passed_over",
    "kept_futures",
    "leave_group",
    "producer_identity",
    "sender_of",
    "set_gathering",
    "subscription_of",
    "take_fetched",
    "take_identity",
    "track_topic",
    "transaction_outcome",
    "transactional_id_of",
    "will_mark",
]


def client_of(consumer: AIOKafkaConsumer) -> AIOKafkaClient:
    """A consumer's connections: a producer tells its own by `client`, a consumer does not."""
    return consumer._client


def subscription_of(consumer: AIOKafkaConsumer) -> Any:
    """A consumer's `SubscriptionState`.

    The public `assignment()` says neither whether a partition's position is known, nor which of two
    assignments of the same partitions it is, nor that the group is being given out anew.
    """
    return consumer._subscription


def check_usable(consumer: AIOKafkaConsumer) -> None:
    """Check what `getmany` checks before it fetches; here fetches are taken without it.

    Raises:
        ConsumerStoppedError: the consumer is closed.
        KafkaError: the group's coordinator refused.
    """
    if consumer._closed:
        raise ConsumerStoppedError
    consumer._coordinator.check_errors()


async def leave_group(consumer: AIOKafkaConsumer) -> None:
    """Leave the group; does nothing for who is in none.

    `stop` does not leave a group for a member with an instance id, and there is no other way to.

    Raises:
        KafkaError: the coordinator refuses.
    """
    coordinator = consumer._coordinator
    if isinstance(coordinator, GroupCoordinator) and coordinator.generation > 0:
        leave = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
        await coordinator._send_req(leave)


async def end_fetches(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """End what a consumer fetches, waiting for so long; call it before `stop`.

    `stop` cancels its requests, awaits each, and lets the cancellation of one that waits for its
    next try out: the caller seems to be cancelled, and the client stays open.
    """
    fetcher = consumer._fetcher
    if fetcher is None:
        return
    tasks = {fetcher._fetch_task, *fetcher._pending_tasks}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=seconds)
    fetcher._pending_tasks.clear()


def set_gathering(consumer: AIOKafkaConsumer, least_bytes: int, most_ms: int) -> None:
    """Let the broker gather so many bytes, for so long, from the next request on.

    The constructor's `fetch_min_bytes` and `fetch_max_wait_ms` hold for a consumer's life.
    """
    fetcher = consumer._fetcher  # None before the consumer is started
    if fetcher is not None:
        fetcher._fetch_min_bytes = least_bytes
        fetcher._fetch_max_wait_ms = most_ms


@dataclass(frozen=True)
class Fetched:
    """A fetch response of a partition: `data` is its bytes, offsets run from `start` to `end`."""

    data: Any
    batches: list[Any]
    """aiokafka's batches, at least one, in the order of the bytes."""
    start: int
    end: int
    transactions: Any
    """What tells which batches are of aborted transactions, for `is_passed_over`."""


def take_fetched(consumer: AIOKafkaConsumer, tp: TopicPartition) -> Fetched | None:
    """Take a partition's fetch response as it came, and move the position to its end.

    On the consumer's event loop. `getmany` makes an object of each record, which takes most of a
    worker's time; kernels read the bytes instead.

    Raises:
        KafkaError: the broker refused.
    """
    fetcher = consumer._fetcher
    found = fetcher._records.pop(tp, None)
    if found is None:
        return None
    try:
        if not isinstance(found, FetchResult):
            found.check_raise()
            return None
        if not found.check_assignment(tp):
            return None
        parts: Any = found._partition_records
        start, memory, batches = parts.next_fetch_offset, parts._records, []
        while memory.has_next():
            batches.append(memory.next_batch())
        # Points back at `parts`: kept, the bytes would stay until the collector comes.
        parts._records_iterator = None
        if not batches:
            return None
        end = batches[-1].next_offset
        found._assignment.state_value(tp).consumed_to(end)
        return Fetched(memory.data, batches, start, end, parts)
    finally:
        fetcher._notify(fetcher._wait_consume_future)


def fetch_waiter(consumer: AIOKafkaConsumer) -> asyncio.Future[None]:
    """What is done when a fetch of any partition brings something, or the coordinator refuses.

    `getmany` waits by it, and takes the records too.
    """
    waiter: asyncio.Future[None] = consumer._fetcher._create_fetch_waiter()
    return waiter


def is_passed_over(transactions: Any, batch: Any) -> bool:
    """Whether a batch is a transaction's marker or belongs to an aborted one; ask in their order.

    aiokafka decides it where it makes objects of records, see `take_fetched`.
    """
    transactions._consume_aborted_up_to(batch.base_offset)
    producers = transactions._aborted_producers
    if batch.is_control_batch:
        if transactions._contains_abort_marker(batch):
            producers.discard(batch.producer_id)
        return True
    return bool(batch.is_transactional and batch.producer_id in producers)


def track_topic(client: AIOKafkaClient, topic: str) -> None:
    """Have a topic in the next metadata; `add_topic` sends a request for each."""
    client._topics.add(topic)


def transactional_id_of(producer: AIOKafkaProducer) -> str | None:
    """A producer's transactional id, None without transactions; it keeps what it was given."""
    manager = producer._txn_manager
    return None if manager is None else manager.transactional_id


def producer_identity(producer: AIOKafkaProducer) -> tuple[int, int]:
    """Id and epoch that the broker gave to a started producer, which nothing public tells."""
    manager = producer._txn_manager
    return manager.producer_id, manager.producer_epoch


def take_identity(producer: AIOKafkaProducer, identity: tuple[int, int]) -> None:
    """Give an idempotent producer, before it is started, the id and epoch of another one.

    By itself it asks for an id of its own, which fences nobody.
    """
    producer._txn_manager.set_pid_and_epoch(*identity)


def will_mark(producer: AIOKafkaProducer, tp: TopicPartition) -> None:
    """Have the transaction's marker written in a partition too, in which it writes no record.

    aiokafka adds partitions to a transaction with records only.
    """
    producer._txn_manager.maybe_add_partition_to_txn(tp)


def transaction_outcome(producer: AIOKafkaProducer) -> asyncio.Future[Any] | None:
    """What the transaction of a producer came to, where one is or was running.

    A fenced producer learns it between two steps and keeps it here; the next step only says that no
    transaction is open.
    """
    manager = producer._txn_manager
    outcome: asyncio.Future[Any] | None = None if manager is None else manager._transaction_waiter
    return outcome


def kept_futures(producer: AIOKafkaProducer) -> Iterator[asyncio.Future[Any]]:
    """All that a producer may end with an error and nobody awaits.

    Deliveries are given to who sends; what is drained and what a transaction came to is not.
    """
    outcome = transaction_outcome(producer)
    if outcome is not None:
        yield outcome
    for batches in producer._message_accumulator._batches.values():
        for batch in batches:
            yield batch.future
            yield batch._drain_waiter


def sender_of(producer: AIOKafkaProducer) -> object:
    """The part of a producer whose requests are tasks that outlive it."""
    return producer._sender
