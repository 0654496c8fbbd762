"""What Kafka clients lack: an end within a bound, and which of their errors waiting heals."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
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
from stream.kafka.unheard import hear_out

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
    await _ended(producer.stop())
    hear_out(producer)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop within a bound, also one that was never started; a second call does nothing."""
    await end_fetches(consumer)
    await _ended(consumer.stop())


async def end_fetches(consumer: AIOKafkaConsumer) -> None:
    """End what a consumer fetches; call it before `stop`.

    aiokafka cancels its requests when it stops, awaits each, and lets the cancellation of one that
    waits for its next try out of `stop`: the caller seems to be cancelled, the client stays open.
    """
    fetcher = consumer._fetcher  # noqa: SLF001
    if fetcher is None:
        return
    tasks = {fetcher._fetch_task, *fetcher._pending_tasks}  # noqa: SLF001
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)
    fetcher._pending_tasks.clear()  # noqa: SLF001


async def _ended(stopping: Awaitable[None]) -> None:
    """Await what stops a client, in a task: a cancellation that it lets out is not the caller's."""
    task = asyncio.ensure_future(stopping)
    try:
        await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    finally:
        task.cancel()
    await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if task.done() and not task.cancelled():
        with contextlib.suppress(KafkaError, AssertionError):
            task.result()
