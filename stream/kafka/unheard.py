"""Errors of a failed Kafka producer that nobody has looked at.

asyncio reports each of them with a traceback when it is collected as garbage, in the middle of
whatever runs then. They say nothing that was not raised already where somebody waited.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer


def heard(delivery: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
    """Return a delivery whose failure counts as looked at, whoever waits for it or does not."""
    delivery.add_done_callback(_look)
    return delivery


def hear_out(producer: AIOKafkaProducer) -> None:
    """Look at what aiokafka fails beside the deliveries.

    Call it when the producer has failed, and once more when it is stopped: what is done by then is
    looked at, what is left running is heard when it ends.
    """
    for future in _kept(producer):
        if future.done():
            _look(future)
    for task in _left_running(producer):
        heard(task)


def _kept(producer: AIOKafkaProducer) -> Iterator["asyncio.Future[Any]"]:
    manager = producer._txn_manager  # noqa: SLF001
    waiter = None if manager is None else manager._transaction_waiter  # noqa: SLF001
    if waiter is not None:
        yield waiter
    for batches in producer._message_accumulator._batches.values():  # noqa: SLF001
        for batch in batches:
            yield batch.future
            yield batch._drain_waiter  # noqa: SLF001


def _left_running(producer: AIOKafkaProducer) -> Iterator["asyncio.Task[Any]"]:
    """Requests that wait to be repeated while the loop that sent them has ended with an error."""
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and frame.f_locals.get("self") is producer._sender:  # noqa: SLF001
            yield task


def _look(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()
