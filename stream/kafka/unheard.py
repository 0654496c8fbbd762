"""Errors of a failed Kafka producer that nobody has looked at.

asyncio reports each of them with a traceback when it is collected as garbage, in the middle of
whatever runs then. They say nothing that was not raised already where somebody waited.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer

from stream.kafka.aiokafka_private import kept_futures, sender_of


def heard(delivery: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
    """Return a delivery whose failure counts as looked at, whoever waits for it or does not."""
    delivery.add_done_callback(_look)
    return delivery


def hear_out(producer: AIOKafkaProducer) -> None:
    """Look at what aiokafka fails beside the deliveries.

    Call it when the producer has failed, and once more when it is stopped: what is done by then is
    looked at, what is left running is heard when it ends.
    """
    for future in kept_futures(producer):
        if future.done():
            _look(future)
    for task in _left_running(producer):
        heard(task)


def _left_running(producer: AIOKafkaProducer) -> Iterator["asyncio.Task[Any]"]:
    """Requests that wait to be repeated while the loop that sent them has ended with an error."""
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and frame.f_locals.get("self") is sender_of(producer):
            yield task


def _look(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()
