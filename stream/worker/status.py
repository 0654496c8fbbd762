"""Heartbeats: once a second the worker says how each of its partitions is doing."""

import asyncio
import time
from typing import Final

import rocksdict
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.codec import encode
from schemas.control import WorkerStatus
from stream.config.settings import Settings
from stream.errors import StoreError
from stream.kafka.clients import stop_producer
from stream.kafka.diagnosis import denied
from stream.partition.partition import PartitionTask
from stream.worker.supervision import raising
from stream.worker.worker import Worker

BEAT_S: Final = 1.0
_SEND_TIMEOUT_S: Final = 5.0
_COUNT_SHARE: Final = 0.002
"""Share of a thread's time that counting users may take."""

log = structlog.get_logger(__name__)


class Heartbeats:
    """Writes a `WorkerStatus` per partition to the compacted status topic.

    What it says is committed. A heartbeat that cannot be sent is no reason to stop working.
    """

    def __init__(self, settings: Settings) -> None:
        """Start nothing; `run` connects."""
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._users: dict[int, tuple[int, float]] = {}

    async def run(self, worker: Worker) -> None:
        """Beat until cancelled."""
        options = self._settings.kafka.client_options()
        self._producer = AIOKafkaProducer(acks=1, **options)
        await self._producer.start()
        while True:
            await self._beat(worker)
            await asyncio.sleep(BEAT_S)

    async def finish(self, worker: Worker) -> None:
        """Send a last beat of the partitions that were closed."""
        if self._producer is None:
            return
        await self._beat(worker)
        producer, self._producer = self._producer, None
        await stop_producer(producer)

    async def _beat(self, worker: Worker) -> None:
        tasks = [*worker.assignment.ended, *worker.assignment.tasks]
        worker.assignment.ended.clear()
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                for task in tasks:
                    await self._send(worker, task)
        except (KafkaError, TimeoutError) as error:
            reason = denied(error, self._settings.kafka) or repr(error)
            log.warning("no heartbeat could be sent", error=reason)

    async def _send(self, worker: Worker, task: PartitionTask) -> None:
        snapshot = task.snapshot
        if snapshot is None or self._producer is None:
            return
        counters, partition = snapshot.counters, task.tp.partition
        state = worker.log_state(task.tp)
        canary, shadow = worker.trials.versions()
        raised = raising(worker)
        status = WorkerStatus(
            worker_id=worker.identity.name,
            partition=partition,
            offset=snapshot.offset,
            high_water=max(state.high_water if state else 0, snapshot.offset),
            watermark=max(snapshot.watermark - self._settings.state.grace_ms, 0),
            consumed=counters.consumed,
            accepted=counters.accepted,
            duplicate=counters.duplicate,
            late=counters.late,
            invalid=counters.invalid,
            predictions=counters.predictions,
            alerts=counters.alerts,
            model_version=worker.lineup.serving.version,
            users=await self._count_users(task),
            updated_at=time.time_ns() // 1_000_000,
            timers_due_at=snapshot.next_due,
            canary_version=canary,
            shadow_version=shadow,
            stability=task.stability,
            ahead=counters.ahead,
            behind=counters.behind,
            offsets={str(offset): count for offset, count in counters.offsets.items()},
            skewed=counters.skewed,
            skewed_at=counters.skewed_at if counters.skewed_at >= 0 else None,
            lost=counters.lost,
            overflow=counters.overflow,
            blocked_at=task.blocked_at,
            currency=self._settings.money.currency,
            currencies=counters.currencies,
            unpriced=counters.unpriced,
            raise_at=raised.risk,
            raise_by=raised.by,
            expected_alerts_per_day=raised.per_day,
        )
        await self._producer.send_and_wait(
            self._settings.topics.status, key=b"%d" % partition, value=encode(status)
        )

    async def _count_users(self, task: PartitionTask) -> int:
        """Count anew when the last count has become cheap beside the time since."""
        partition, store = task.tp.partition, task.store
        known, again_at = self._users.get(partition, (0, 0.0))
        began = time.monotonic()
        if store is None or began < again_at:
            return known
        try:
            count = await asyncio.to_thread(store.user_count)
        except (StoreError, rocksdict.DbClosedError):
            return known  # it is being closed, and whoever closes it says why
        ended = time.monotonic()
        self._users[partition] = (count, ended + (ended - began) / _COUNT_SHARE)
        return count
