"""The micro-batch Faust transport: one Faust event is up to B records of one partition.

Faust hands every record through four tasks and keeps its own idea of acknowledged offsets. Here a
message's value is a whole `MicroBatch`, and offsets are this project's business: Faust's commit,
seek and acknowledgement bookkeeping are switched off. What remains Faust's is the consumer thread,
the group membership, the conductor, the channel and the agent.

Back-pressure: the fetch loop asks only for partitions that the intake names, which are the open
ones with room, and sleeps until there is one. Every batch says from which position to which it
reaches; the intake takes it only if it continues what it has, so nothing is lost or taken twice
unnoticed, whatever a rebalance does to a fetch on its way.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
)
from faust import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage, Message
from faust.types.events import EventT
from mode.types import ServiceT

from stream.config.settings import Settings
from stream.faults import async_stage
from stream.kafka.aiokafka_private import client_of, end_fetches, leave_group, subscription_of
from stream.kafka.clients import STOP_TIMEOUT_S
from stream.kafka.faust_private import is_stopped
from stream.kafka.fetching import Fetching, MicroBatch
from stream.kafka.pace import FETCH_WAIT_MS
from stream.kafka.topic_ids import ask_topic_ids

SESSION_TIMEOUT_MS: Final = 10_000
"""A worker that is silent for this long loses its partitions."""
HEARTBEAT_MS: Final = 2_000
METADATA_AGE_MS: Final = 5_000
"""How soon a deleted topic or a raised number of partitions is noticed."""
PARTITION_FETCH_BYTES: Final = 2 << 20
_POLL_MS: Final = 500
_POLL_FULL_MS: Final = 10
_LEAVE_S: Final = 2.0
_LOG_APPEND_TIME: Final = 1

Result = TypeVar("Result")


@dataclass(frozen=True)
class LogState:
    """What the last fetch response said about a partition."""

    stable_end: int
    """End of what a read_committed consumer may see."""
    high_water: int
    polled_at_ms: int
    """When that was, ms since epoch."""


class Intake(Protocol):
    """Who takes the batches; all calls on the main event loop."""

    room: asyncio.Event
    """Set when `wanted` may have become non-empty."""

    def wanted(self) -> list[TopicPartition]:
        """Return the partitions to fetch from now."""

    def all_wanted(self) -> bool:
        """Return whether no open partition is left out for lack of room."""

    def offer(self, batch: MicroBatch) -> bool:
        """Take the batch if it continues its partition; records may be empty."""

    def expected(self, tp: TopicPartition) -> int | None:
        """Return the position that the partition wants next, None if it is not open."""


class BatchSchema(Schema[Any, Any]):
    """Passes a micro-batch through the channel as it is."""

    def compile(self, app: AppT, **_: Any) -> Any:
        """Return the function that makes a message an event."""

        async def decode(message: Message, *, propagate: bool = False) -> EventT[Any]:
            del propagate
            return app.create_event(None, cast("Any", message.value), None, message)

        return decode


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer: fetching, heartbeats, group membership."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Have fetched nothing."""
        super().__init__(*args, **kwargs)
        self.fetches: Counter[TopicPartition] = Counter()
        """Answered fetches per partition, empty ones too."""

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        settings = cast("BatchTransport", transport).settings
        consumer = AIOKafkaConsumer(
            group_id=settings.app_id,
            group_instance_id=cast("BatchTransport", transport).instance_id,
            partition_assignment_strategy=(StickyPartitionAssignor,),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_min_bytes=1,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            # Whether a worker makes progress is for its own watchdog to judge: a long restore
            # fetches nothing and is no reason to lose the partition.
            max_poll_interval_ms=2**31 - 1,
            metadata_max_age_ms=METADATA_AGE_MS,
            **settings.kafka.client_options(),
        )
        self._fetching = Fetching(consumer)
        return consumer

    async def on_thread_stop(self) -> None:
        """Leave the group, which aiokafka does not do for a member with an instance id."""
        if self._consumer is not None:
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await leave_group(self._consumer)
            await end_fetches(self._consumer, STOP_TIMEOUT_S)
        await super().on_thread_stop()

    async def in_thread(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the thread's event loop and return its result here."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))

    async def fetch(
        self, wanted: Collection[TopicPartition], limit: int, wait_ms: int
    ) -> list[MicroBatch]:
        """Return up to `limit` records of each partition; wait up to `wait_ms` for any."""
        return await self.in_thread(self._fetch(wanted, limit, wait_ms))

    async def _fetch(
        self, wanted: Collection[TopicPartition], limit: int, wait_ms: int
    ) -> list[MicroBatch]:
        await async_stage("in_fetch")
        asked = self._positioned(wanted)
        if not asked:
            await asyncio.sleep(0.05)
            return []
        batches = await self._fetching.fetch(asked, limit, wait_ms)
        self.fetches.update(asked)
        return batches

    def _positioned(self, wanted: Collection[TopicPartition]) -> list[TopicPartition]:
        """Of these, the partitions that are assigned and know from where to read."""
        subscription = subscription_of(self._ensure_consumer()).subscription
        if subscription is None or subscription.assignment is None:
            return []
        states = subscription.assignment
        return [
            tp for tp in wanted if tp in states.tps and states.state_value(tp).has_valid_position
        ]

    async def move_to(self, tp: TopicPartition, offset: int) -> None:
        """Make `offset` the next one to be fetched; does nothing when the partition is lost."""

        async def seek() -> None:
            self._fetching.moved(tp)
            try:
                self._ensure_consumer().seek(tp, offset)
            except IllegalStateError:
                self.log.info("%s-%s is not assigned any more", tp.topic, tp.partition)

        await self.in_thread(seek())

    async def commit_offset(self, tp: TopicPartition, offset: int) -> None:
        """Commit a source offset as a member of the group.

        Raises:
            CommitFailedError: this worker is no longer a member of the current generation.
            IllegalStateError: the partition is not assigned to it.
        """
        await self.in_thread(self._ensure_consumer().commit({tp: offset}))

    async def refresh_metadata(self) -> None:
        """Ask the broker for the topics' partitions now."""

        async def ask() -> None:
            await client_of(self._ensure_consumer()).force_metadata_update()

        await self.in_thread(ask())

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the ids that the topics have now, of those that exist.

        Raises:
            KafkaError: no broker answers.
        """
        client = client_of(self._ensure_consumer())
        return await self.in_thread(ask_topic_ids(client, topics))

    def partition_count(self, topic: str) -> int:
        """Return the topic's partitions as of the last metadata, 0 when it does not exist."""
        return len(self._ensure_consumer().partitions_for_topic(topic) or ())

    def assigned(self) -> frozenset[TopicPartition]:
        """Return the partitions that the group gave to this consumer."""
        try:
            return frozenset(self._ensure_consumer().assignment())
        except AttributeError:  # the consumer's own thread has just dropped it
            return frozenset()

    def log_state(self, tp: TopicPartition) -> LogState | None:
        """Return what the last fetch response said, None before the first."""
        try:
            consumer = self._ensure_consumer()
            polled = consumer.last_poll_timestamp(tp)
            high_water, stable = consumer.highwater(tp), consumer.last_stable_offset(tp)
        except (IllegalStateError, AssertionError, AttributeError):
            # AttributeError: the consumer's own thread drops the assignment between two steps.
            return None
        if polled is None or high_water is None:
            return None
        return LogState(high_water if stable is None else stable, high_water, polled)


class BatchConsumer(driver.Consumer):
    """Feeds the conductor with micro-batches and leaves offsets alone."""

    _thread: BatchConsumerThread

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def thread(self) -> BatchConsumerThread:
        """The thread that talks to the broker."""
        return self._thread

    async def perform_seek(self) -> None:
        """Do nothing: each partition seeks when it is open."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: FBT001, FBT002
        """Do nothing: offsets are committed with the partition's transaction."""
        del topics, start_new_transaction
        return False

    def ack(self, message: Message) -> bool:
        """Forget the message; called when its batch is committed."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's guess at a stuck stream knows only its own commits."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109
        """Yield one message per micro-batch."""
        del timeout
        transport = cast("BatchTransport", self.transport)
        intake = transport.intake
        wanted = intake.wanted()
        if not wanted:
            intake.room.clear()
            await _wait(intake.room, _POLL_MS / 1000)
            return
        # A partition that gets room meanwhile must not wait for the quiet ones.
        wait_ms = _POLL_MS if intake.all_wanted() else _POLL_FULL_MS
        limit = transport.settings.worker.batch_size
        for batch in await self._thread.fetch(wanted, limit, wait_ms):
            if not intake.offer(batch):
                expected = intake.expected(batch.tp)
                if expected is not None:
                    await self._thread.move_to(batch.tp, expected)
            elif batch.records:
                yield TP(*batch.tp), self._message(batch)

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        try:
            while not is_stopped(self) and not is_stopped(fetcher):
                if not self.flow_active:
                    await _wait(self.can_resume_flow, _POLL_MS / 1000)
                    continue
                async for _, message in self.getmany(timeout=1.0):
                    await self.callback(message)
        except ConsumerStoppedError:
            if not self.transport.app.should_stop:
                raise

    def _message(self, batch: MicroBatch) -> ConsumerMessage:
        last = batch.records[-1]
        message = batch.message = ConsumerMessage(
            batch.tp.topic,
            batch.tp.partition,
            last.offset,
            last.timestamp / 1000,
            _LOG_APPEND_TIME,
            None,
            None,
            cast("Any", batch),
            None,
            0,
            0,
            TP(*batch.tp),
            generation_id=self.app.consumer_generation_id,
        )
        return message


class BatchTransport(driver.Transport):
    """Faust's Kafka transport with the consumer above."""

    Consumer: ClassVar[Any] = BatchConsumer
    settings: Settings
    intake: Intake
    instance_id: str

    def attach(self, settings: Settings, intake: Intake, instance_id: str) -> Self:
        """Say where batches go and who the group's member is; before the app starts."""
        self.settings, self.intake, self.instance_id = settings, intake, instance_id
        return self


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
