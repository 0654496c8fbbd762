"""Fetch responses -> micro-batches of columns; runs on the consumer's event loop.

A response is taken from aiokafka as a whole, so that the next one can come, and handed on in parts
of bounded size. What is left belongs to the assignment under which it was fetched.
"""

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from stream.errors import ClusterUnreachable, OffsetError
from stream.kafka.aiokafka_private import check_usable, subscription_of
from stream.kafka.clients import failure_of
from stream.kafka.offsets import log_lost
from stream.kafka.pace import Pace
from stream.kafka.responses import Part, Response, take_response, wait_for_response
from stream.pipeline.records import Records

_NO_RECORDS: Final = Records.of(())


@dataclass
class MicroBatch:
    """Records of one partition in offset order, and the stretch of the log that they cover."""

    tp: TopicPartition
    records: Records
    start: int
    """Position before: the offset that was to be read next."""
    end: int
    """Position after; greater than the last offset + 1 where markers or gaps follow."""
    lost: int = 0
    """Offsets before its first record that retention deleted before they were read."""
    message: Any = field(default=None, repr=False)
    """Faust's message while it is on its way."""

    oldest_ms: int = field(default=0, init=False)
    """Broker's time of the first record, once the batch is spent; ms since epoch."""

    def spent(self) -> None:
        """Let go of the records, which are processed, but for the age that the commit asks for."""
        self.oldest_ms = int(self.records.timestamps[0])
        self.records = _NO_RECORDS


@dataclass
class _Rest:
    """What was fetched of a partition and not handed on yet."""

    assignment: Any
    parts: Iterator[Part]
    """What is not decompressed yet."""
    start: int
    end: int
    part: Part | None = None
    """Its records are to be handed on next."""

    @classmethod
    def of(cls, assignment: Any, response: Response) -> Self:
        return cls(assignment, response.parts(), response.start, response.end)

    def cut(self, tp: TopicPartition, limit: int) -> MicroBatch:
        """Take up to `limit` records; what is left begins where they end."""
        records, end = part = self.part or next(self.parts)
        self.part = None
        if len(records) > limit:
            self.part = Part(records[limit:], part.end)
            records, end = records[:limit], int(records.offsets[limit - 1]) + 1
        batch = MicroBatch(tp, records, self.start, end)
        self.start = end
        return batch


class Fetching:
    """Hands on what one consumer fetches, partition by partition."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        """`consumer` reads committed records and commits nothing by itself."""
        self._consumer = consumer
        self._pace = Pace(consumer)
        self._rests: dict[TopicPartition, _Rest] = {}
        self._out_of_range: set[TopicPartition] = set()

    async def fetch(
        self, wanted: Collection[TopicPartition], limit: int, wait_ms: int
    ) -> list[MicroBatch]:
        """Return up to `limit` records of each partition; wait up to `wait_ms` for any.

        A batch without records says that there are none up to its end, maybe because retention
        has deleted them.

        Raises:
            ConsumerStoppedError: the consumer is closed.
            OffsetError: a position lies behind the end of the log.
            KafkaError: the broker refuses.
            LogUnreadable: a batch is damaged, or cannot be decompressed.
        """
        consumer, subscription = self._consumer, subscription_of(self._consumer)
        check_usable(consumer)
        if subscription.reassignment_in_progress:
            # What was fetched may belong to somebody else in a moment.
            await asyncio.wait([subscription.wait_for_assignment()], timeout=wait_ms / 1000)
            return []
        batches = self._collect(wanted, limit)
        if not batches and wait_ms:
            with subscription.fetch_context():
                await wait_for_response(consumer, wait_ms / 1000)
            if not subscription.reassignment_in_progress:
                batches = self._collect(wanted, limit)
        while self._out_of_range:
            batches += await self._passed_over(self._out_of_range.pop())
        self._pace.note(sum(len(batch.records) for batch in batches))
        return batches

    def moved(self, tp: TopicPartition) -> None:
        """Forget what was fetched of a partition: its position is another now."""
        self._rests.pop(tp, None)

    def _collect(self, wanted: Collection[TopicPartition], limit: int) -> list[MicroBatch]:
        subscription = subscription_of(self._consumer).subscription
        assignment = None if subscription is None else subscription.assignment
        for tp in [tp for tp, rest in self._rests.items() if rest.assignment is not assignment]:
            del self._rests[tp]
        if assignment is None:
            return []
        batches = []
        for tp in wanted:
            rest = self._rests.pop(tp, None)
            if rest is None and (response := self._take(tp)) is not None:
                rest = _Rest.of(assignment, response)
            if rest is None:
                continue
            batches.append(rest.cut(tp, limit))
            if rest.start < rest.end:
                self._rests[tp] = rest
        return batches

    async def _passed_over(self, tp: TopicPartition) -> list[MicroBatch]:
        """Go on behind what retention has deleted; what is lost is logged and in the batch."""
        try:
            position = await self._consumer.position(tp)
            begin = (await self._consumer.beginning_offsets([tp]))[tp]
        except IllegalStateError:
            return []  # a rebalance has taken it away
        except KafkaError as error:
            if failure_of(error, OffsetError) is ClusterUnreachable:
                return []  # the next fetch brings it up again
            raise
        if position >= begin:
            raise OffsetError(
                f"{tp.topic}-{tp.partition}: offset {position} is to be read next and the broker"
                " does not have it: the topic was deleted and created again, or lost its end"
                " (unclean leader election); nothing was changed: start the worker again to see"
                " which"
            )
        log_lost(tp, position, begin)
        self._consumer.seek(tp, begin)
        return [MicroBatch(tp, _NO_RECORDS, position, begin, begin - position)]

    def _take(self, tp: TopicPartition) -> Response | None:
        try:
            return take_response(self._consumer, tp)
        except OffsetOutOfRangeError:
            self._out_of_range.add(tp)
            return None
        except NoOffsetForPartitionError:
            # A rebalance came in between, and of a partition that it gave back the group knows no
            # offset. It moves to its own once it is open again.
            return None
