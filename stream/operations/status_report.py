"""How the workers are doing: heartbeats, lag and the published model, read from the cluster."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupCoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
)

from schemas.codec import decode
from schemas.control import ModelPublished, WorkerStatus
from schemas.errors import InvalidMessage
from schemas.monitoring import ModelMetrics
from schemas.refused import DeadLetter
from stream.kafka.diagnosis import unusable
from stream.kafka.partitioners import ClientShare
from stream.kafka.tail import open_bounds, open_tail
from stream.operations.alarms import alarms_of
from stream.operations.misplaced import LETTERS, Misplaced

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiokafka import ConsumerRecord

    from stream.config.settings import Settings
    from stream.kafka.tail import Bounds, Tail

__all__ = ["COUNTERS", "FRESH_MS", "PartitionReport", "StatusReader", "StatusReport", "open_status"]

FRESH_MS: Final = 15_000
"""A heartbeat older than this is of a worker that is gone or stuck."""
MODELS: Final = 8
"""Models whose figures are shown, those told of last."""
RATE_BEATS: Final = 10
"""Heartbeats that a rate is taken over."""
COUNTERS: Final = (
    "consumed",
    "accepted",
    "duplicate",
    "late",
    "invalid",
    "predictions",
    "alerts",
    "users",
)
_ANSWER_MS: Final = 10_000
_STALLED_S: Final = 20.0
_RETRY_S: Final = 0.2
_COORDINATOR_S: Final = 5.0
_NO_COORDINATOR: Final = (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupCoordinatorNotAvailableError,
    NotCoordinatorError,
)


class PartitionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of the event topic."""

    partition: int
    committed: int | None
    """Offset that the workers' group goes on from; None before its first commit."""
    end: int
    lag: int
    """Records that are not processed and committed yet, also behind an open transaction."""
    alive: bool
    """Whether there was a heartbeat within `FRESH_MS`."""
    events_per_second: float
    predictions_per_second: float
    """Over the last `RATE_BEATS` heartbeats; 0 without a live worker."""
    heartbeat: WorkerStatus | None


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """All partitions, and their sums."""

    app_id: str
    topic: str
    at: int
    """When it was read, ms since the epoch."""
    partitions: list[PartitionReport]
    lag: int
    events_per_second: float
    predictions_per_second: float
    lost: int
    """Offsets that retention deleted before they were read."""
    totals: dict[str, int]
    """Sums of the counters of all heartbeats; consumed = accepted + duplicate + late + invalid."""
    dead_letters: int
    """Events sent to the dead-letter topic."""
    workers: list[str]
    """Ids of the live ones."""
    model_versions: list[str]
    """Served by live workers."""
    published: str | None
    """Version announced last."""
    timers_due_at: int | None
    """When the earliest absence timer is due, ms on the workers' clock."""
    canaries: list[str]
    """Versions that serve a share of the users, of live workers."""
    shadows: list[str]
    """Versions that score without being heard, likewise."""
    models: list[ModelMetrics]
    """Figures of what has matured, of models that have a role or were judged last."""
    misplaced: int
    """Of the newest dead letters, those of events in wrong partitions."""
    clients: list[ClientShare]
    """Who seems to have sent these, by the hashes of their keys."""
    alarms: list[str]
    """What needs a look: "version: what", of served models, and drift of the inputs."""
    raise_at: list[str] = []
    """From which risk on live workers raise churn alerts, and by what."""


class _Beats:
    """The last heartbeats of a partition."""

    def __init__(self) -> None:
        self._beats: deque[WorkerStatus] = deque(maxlen=RATE_BEATS)

    @property
    def last(self) -> WorkerStatus:
        return self._beats[-1]

    def add(self, beat: WorkerStatus) -> None:
        if self._beats and beat.updated_at <= self.last.updated_at:
            return
        apart = bool(self._beats) and beat.updated_at - self.last.updated_at > FRESH_MS
        if apart or (self._beats and beat.consumed < self.last.consumed):
            # A pause or a new state: a rate over it would mean nothing.
            self._beats.clear()
        self._beats.append(beat)

    def rate(self, counter: str) -> float:
        """Per second."""
        first, last = self._beats[0], self._beats[-1]
        seconds = (last.updated_at - first.updated_at) / 1000
        return (getattr(last, counter) - getattr(first, counter)) / seconds if seconds else 0.0


class StatusReader:
    """Keeps up with the heartbeats; use `open_status`."""

    def __init__(
        self, settings: Settings, tail: Tail, events: Bounds, admin: AIOKafkaAdminClient
    ) -> None:
        """Read with open clients; `events` is of the source."""
        self._settings = settings
        self._tail = tail
        self._events = events
        self._admin = admin
        self._beats: dict[int, _Beats] = {}
        self._published: ModelPublished | None = None
        self._metrics: dict[str, ModelMetrics] = {}
        topics = settings.topics
        self._misplaced = Misplaced(topics.events, topics.partitions)

    async def read(self) -> StatusReport:
        """Read everything that is new, and sum up.

        Raises:
            BrokerError: the broker stopped answering.
        """
        async for records in self._tail.read_to_end(_STALLED_S):
            for record in records:
                self._take(record)
        return self._report(await self._events.read(), await self._committed())

    def _take(self, record: ConsumerRecord) -> None:
        topics = self._settings.topics
        if record.value is None:
            return
        with contextlib.suppress(InvalidMessage):
            if record.topic == topics.models:
                self._published = decode(ModelPublished, record.value)
            elif record.topic == topics.metrics:
                found = decode(ModelMetrics, record.value)
                self._metrics.pop(found.model_version, None)
                self._metrics[found.model_version] = found
            elif record.topic == topics.dead_letter:
                self._misplaced.add(decode(DeadLetter, record.value))
            elif record.topic == topics.status:
                self._beat(decode(WorkerStatus, record.value))

    def _beat(self, status: WorkerStatus) -> None:
        self._beats.setdefault(status.partition, _Beats()).add(status)

    async def _committed(self) -> dict[int, int]:
        topic = self._settings.topics.events
        deadline = asyncio.get_running_loop().time() + _COORDINATOR_S
        while True:
            try:
                offsets = await self._admin.list_consumer_group_offsets(self._settings.app_id)
            except _NO_COORDINATOR:
                # A cluster without any group yet sets the coordinator up when asked.
                if asyncio.get_running_loop().time() > deadline:
                    return {}
                await asyncio.sleep(_RETRY_S)
            else:
                return {
                    where.partition: found.offset
                    for where, found in offsets.items()
                    if where.topic == topic and found.offset >= 0
                }

    def _report(
        self, bounds: dict[int, tuple[int, int]], committed: dict[int, int]
    ) -> StatusReport:
        now = time.time_ns() // 1_000_000
        rows = [
            self._partition(number, bounds[number], committed.get(number), now)
            for number in sorted(bounds)
        ]
        beats = [row.heartbeat for row in rows if row.heartbeat is not None]
        live = [row.heartbeat for row in rows if row.alive and row.heartbeat is not None]
        totals = {name: sum(getattr(beat, name) for beat in beats) for name in COUNTERS}
        due = [beat.timers_due_at for beat in beats if beat.timers_due_at is not None]
        return StatusReport(
            app_id=self._settings.app_id,
            topic=self._settings.topics.events,
            at=now,
            partitions=rows,
            lag=sum(row.lag for row in rows),
            events_per_second=sum(row.events_per_second for row in rows),
            predictions_per_second=sum(row.predictions_per_second for row in rows),
            lost=sum(beat.lost for beat in beats),
            totals=totals,
            dead_letters=totals["invalid"],
            workers=sorted({beat.worker_id for beat in live}),
            model_versions=sorted({beat.model_version for beat in live}),
            published=self._published.version if self._published else None,
            raise_at=sorted({text for text in map(_raising, live) if text}),
            timers_due_at=min(due, default=None),
            canaries=sorted({beat.canary_version for beat in live if beat.canary_version}),
            shadows=sorted({beat.shadow_version for beat in live if beat.shadow_version}),
            models=list(self._metrics.values())[-MODELS:],
            misplaced=self._misplaced.letters,
            clients=self._misplaced.clients(),
            alarms=alarms_of(live, self._metrics, self._published),
        )

    def _partition(
        self, number: int, bounds: tuple[int, int], committed: int | None, now: int
    ) -> PartitionReport:
        begin, end = bounds
        beats = self._beats.get(number)
        alive = beats is not None and now - beats.last.updated_at <= FRESH_MS
        return PartitionReport(
            partition=number,
            committed=committed,
            end=end,
            lag=max(end - max(committed or 0, begin), 0),
            alive=alive,
            events_per_second=beats.rate("consumed") if beats and alive else 0.0,
            predictions_per_second=beats.rate("predictions") if beats and alive else 0.0,
            heartbeat=beats.last if beats else None,
        )


def _raising(beat: WorkerStatus) -> str:
    """From which risk on a worker raises alerts; empty for one that does not tell."""
    if beat.raise_at is None:
        return ""
    words = f"from a risk of {beat.raise_at:.4f} on, by {beat.raise_by or 'setting'}"
    if beat.expected_alerts_per_day is None:
        return words
    return f"{words}; {beat.expected_alerts_per_day:.1f} a day expected in the treatment arm"


@contextlib.asynccontextmanager
async def open_status(settings: Settings) -> AsyncIterator[StatusReader]:
    """Connect to the cluster.

    Raises:
        BrokerError: no broker answers.
        TopicLayoutError: a topic is missing.
        SettingsError: the settings name no broker.
    """
    topics = settings.topics
    options: dict[str, Any] = settings.kafka.client_options()
    followed = [topics.status, topics.models, topics.metrics, topics.dead_letter]
    async with (
        open_tail(settings, followed, from_beginning=True) as tail,
        open_bounds(settings, topics.events) as events,
    ):
        await tail.seek_before_end(topics.dead_letter, LETTERS)
        admin = AIOKafkaAdminClient(**options, request_timeout_ms=_ANSWER_MS)
        try:
            await admin.start()
            yield StatusReader(settings, tail, events, admin)
        except KafkaError as error:
            raise await unusable(settings.kafka, error) from error
        finally:
            await admin.close()
