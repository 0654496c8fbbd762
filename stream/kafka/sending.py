"""Records -> Kafka batches -> acknowledgements, through one partition's producer."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IllegalOperation,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from stream.errors import ClockRefused, CommitError, RecordTooLarge
from stream.kafka.aiokafka_private import transaction_outcome, transactional_id_of
from stream.kafka.batch import batches_of
from stream.kafka.clock import clock_is_wrong
from stream.kafka.unheard import heard
from stream.pipeline.packed import Message, Messages, Packed

MAX_BATCH_BYTES: Final = 900_000
"""Below the broker's default `message.max.bytes` of 1 MiB."""
REFUSED: Final = (IllegalOperation, AssertionError)
"""How aiokafka refuses a step that the state of a producer does not allow."""

Records = Messages | Sequence[Message]


async def send_records(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Records
) -> int:
    """Send records in batches as large as allowed; return the last one's offset, -1 if none.

    Raises:
        ClockRefused: the clock of this machine is too far from the broker's.
        RecordTooLarge: the broker refuses a record's size.
        CommitError: it does not tell where the records lie.
    """
    parts = records.packed() if isinstance(records, Messages) else [Packed.of(records)]
    transactional = transactional_id_of(producer) is not None
    deliveries: list[tuple[asyncio.Future[Any], int]] = []
    now = time.time_ns() // 1_000_000
    for batch in batches_of(parts, now, MAX_BATCH_BYTES, transactional=transactional):
        delivery = await producer.send_batch(batch, topic, partition=partition)
        deliveries.append((heard(delivery), batch.record_count()))
    last = -1
    for delivery, size in deliveries:
        try:
            metadata = await delivery
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise RecordTooLarge(
                f"{topic}-{partition}: the broker refuses a record for its size: raise"
                f" max.message.bytes of {topic}, or lower worker.max_event_bytes"
            ) from error
        except InvalidTimestampError as error:
            where = f"{topic}-{partition}"
            raise ClockRefused(clock_is_wrong(where), where) from error
        if metadata.offset < 0:
            raise CommitError(
                f"{topic}-{partition}: the broker does not tell where it put a record: it takes it"
                " for a repeat that it no longer remembers; what is committed stays, the rest is"
                " done again"
            )
        last = metadata.offset + size - 1
    return last


async def nothing(awaitable: Awaitable[object]) -> int:
    """Await something that is no record, among records."""
    await awaitable
    return -1


async def all_of(awaitables: Sequence[Awaitable[int]]) -> list[int]:
    """Await all of them, then raise the first error: none is left behind running."""
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, int)]


def reason_of(producer: AIOKafkaProducer, error: BaseException) -> BaseException:
    """Return why a transactional producer failed, where `error` only says that it has.

    aiokafka learns between two steps that a producer is fenced, keeps that as the outcome of its
    transaction, and refuses the next step because the transaction is no longer open.
    """
    if not isinstance(error, REFUSED):
        return error
    outcome = transaction_outcome(producer)
    if outcome is None or not outcome.done() or outcome.cancelled():
        return error
    return outcome.exception() or error
