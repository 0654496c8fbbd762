"""What Kafka clients lack: an end within a bound, and which of their errors waiting heals."""

import asyncio
from collections.abc import Awaitable
from typing import Final

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    NotCoordinatorError,
    NotLeaderForPartitionError,
    RequestTimedOutError,
)

from stream.errors import ClusterUnreachable, StreamError
from stream.kafka.aiokafka_private import client_of, end_fetches
from stream.kafka.batches import install
from stream.kafka.unheard import hear_out

install()  # who makes a consumer ends it with what is here

STOP_TIMEOUT_S: Final = 5.0
_UNREACHABLE: Final = (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    NotCoordinatorError,
    NotLeaderForPartitionError,
    RequestTimedOutError,
)
"""What a client says of a cluster of which nobody who is in charge answers now."""


def failure_of(error: BaseException, otherwise: type[StreamError]) -> type[StreamError]:
    """Return what a client's error counts as: a cluster to be waited for, or `otherwise`."""
    return ClusterUnreachable if isinstance(error, _UNREACHABLE) else otherwise


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Stop within a bound: a producer that failed may wait for a broker that never answers."""
    hear_out(producer)  # a request that waits to be repeated may end before `stop` has
    await _closed(producer.stop(), producer.client)
    hear_out(producer)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop within a bound, also one that was never started; a second call does nothing."""
    await end_fetches(consumer, STOP_TIMEOUT_S)
    await _closed(consumer.stop(), client_of(consumer))


async def _closed(stopping: Awaitable[None], client: AIOKafkaClient) -> None:
    """Await what stops a producer or consumer; close its connections where it does not get there.

    It closes them last, after what may raise: a request that is refused meanwhile, for one.
    """
    if not await _ended(stopping):
        await _ended(client.close())


async def _ended(stopping: Awaitable[None]) -> bool:
    """Whether it has come to a good end within the bound.

    In a task of its own: a cancellation that it lets out is not the caller's.
    """
    task = asyncio.ensure_future(stopping)
    try:
        await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    finally:
        task.cancel()
    await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if not task.done() or task.cancelled():
        return False
    try:
        task.result()
    except (KafkaError, AssertionError):
        return False
    return True
