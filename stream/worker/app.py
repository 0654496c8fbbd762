"""Faust wiring: an app without tables, web server or producer of Faust's, and one agent."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import faust
from aiokafka import TopicPartition
from faust.app.base import BootStrategy
from faust.types import TP, StreamT
from yarl import URL

from stream.config.settings import Settings
from stream.faults import stage
from stream.kafka.faust_private import has_actor
from stream.kafka.fetching import MicroBatch
from stream.kafka.transport import BatchConsumer, BatchSchema, BatchTransport
from stream.partition.assignment import Assignment


class _Boot(BootStrategy):
    enable_kafka_producer = False
    enable_web = False


class WorkerApp(faust.App):
    """Faust's consumer group, conductor, channel and agent around our own partitions."""

    BootStrategy = _Boot

    def __init__(self, settings: Settings, assignment: Assignment, instance_id: str) -> None:
        """Start nothing; `start` joins the group."""
        self.worker_settings = settings
        self.assignment = assignment
        self._instance_id = instance_id
        first = settings.kafka.bootstrap_servers.split(",")[0]
        super().__init__(
            settings.app_id,
            broker=f"kafka://{first}",
            loop=asyncio.get_running_loop(),
            store="memory://",
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
        )
        topic = self.topic(
            settings.topics.events, schema=BatchSchema(), internal=False, allow_empty=True
        )
        self.agent(topic, name="micro-batches")(self._take)
        self.on_partitions_assigned.connect(self._assigned)  # type: ignore[arg-type]
        self.on_partitions_revoked.connect(self._revoked)  # type: ignore[arg-type]

    @property
    def intake(self) -> BatchConsumer:
        """The consumer, typed."""
        return cast("BatchConsumer", self.consumer)

    async def _take(self, stream: StreamT[Any]) -> None:
        # A batch is acknowledged after its commit, not when this loop goes on.
        stream.enable_acks = False
        try:
            async for batch in stream:
                if stage("in_agent"):
                    return
                self.assignment.deliver(batch)
        except Exception as error:
            self.assignment.fail(error)
            raise

    async def _assigned(self, _app: Any, assigned: Iterable[TP], **_: Any) -> None:
        self.assignment.assign(TopicPartition(*tp) for tp in assigned)

    async def _revoked(self, _app: Any, revoked: Iterable[TP], **_: Any) -> None:
        await self.assignment.revoke(TopicPartition(*tp) for tp in revoked)

    @property
    def agents_alive(self) -> bool:
        """Whether every agent has a running actor; Faust says nothing of one that just ends."""
        return all(has_actor(agent) for agent in list(self.agents.values()))

    def acknowledge(self, batch: MicroBatch) -> None:
        """Tell Faust that a batch is done with."""
        # They point at each other: kept, both would stay until the collector comes, which is rare.
        message, batch.message = batch.message, None
        if message is not None:
            message.ack(self.consumer)

    def _new_transport(self) -> Any:
        transport = BatchTransport([URL(str(url)) for url in self.conf.broker_consumer], self)
        return transport.attach(self.worker_settings, self.assignment, self._instance_id)

    def _create_directories(self) -> None:
        """Keep Faust's hands off the disk."""
