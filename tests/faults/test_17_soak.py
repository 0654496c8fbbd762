"""Half load for a long time, with a new model every minute: nothing grows, nothing is missing.

SOAK_SECONDS is how long; what counts is from ten minutes (or the middle of a shorter run) on.
SOAK_MOST is how many events per second at most, for a machine that has other work to do.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.codec import decode, encode
from schemas.events import CartAdd, Event, Purchase, View
from schemas.outputs import Prediction
from stream.pipeline.ingest import partition_of
from tests.e2e.shop import publish, put
from tests.e2e.world import World
from tests.faults.ledger import FaultRow, Scale
from tests.faults.traffic import wait_for_log
from tests.faults.watching import Footprint
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.kafka
ROW, NAME = 17, "soak at half load with a new model every minute"

SECONDS = float(os.environ.get("SOAK_SECONDS", "45"))
SETTLED_S = min(600.0, SECONDS / 2)
SWAP_S = min(60.0, SECONDS / 6)
HELD_UP_S = 20
"""A worker may be held up by what else the machine does; after so long its watchdog speaks up."""
USERS = 1500
TICK_S = 0.1
MIB = 1 << 20
MOST = float(os.environ.get("SOAK_MOST", "inf"))
GENTLE = 1000
"""Events per second of the short form, which runs while others test."""
SENDER_SHARE = 1 / 3
"""Of what the test itself could send: as much again goes to reading, and a third to spare."""


class Customers:
    """Events without end, each now and from somebody else."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.sent = 0
        self._keys = [f"user-{n}".encode() for n in range(USERS)]
        self._partition = [partition_of(key, len(world.partitions)) for key in self._keys]
        self._stop = threading.Event()

    def event(self) -> tuple[int, Event]:
        user = self.rng.randrange(USERS)
        kind = self.rng.choice([View, View, View, CartAdd, Purchase])
        self.sent += 1
        return user, kind(
            event_id=f"e{self.sent}",
            user_id=f"user-{user}",
            event_time=time.time_ns() // 1_000_000,
            item_id=f"item-{self.rng.randrange(500)}",
            category_id=f"category-{self.rng.randrange(20)}",
            price=9.5,
        )

    @contextmanager
    def coming(self, per_second: float) -> Iterator[None]:
        """Send at that rate meanwhile."""
        thread = threading.Thread(target=lambda: asyncio.run(self._send(per_second)))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    async def _send(self, per_second: float) -> None:
        topic = self.world.settings.topics.events
        producer = AIOKafkaProducer(
            bootstrap_servers=self.world.bootstrap, enable_idempotence=True, linger_ms=5
        )
        began, due = time.monotonic(), 0
        async with producer:
            while not self._stop.is_set():
                target = int((time.monotonic() - began) * per_second)
                sent = []
                for _ in range(target - due):
                    user, event = self.event()
                    key, partition = self._keys[user], self._partition[user]
                    sent.append(
                        await producer.send(topic, encode(event), key=key, partition=partition)
                    )
                due = target
                await asyncio.gather(*sent)
                await asyncio.sleep(TICK_S)


@dataclass
class Reader:
    """Counts predictions; each must be of the event behind that of the one before."""

    world: World
    counted: int = 0
    wrong: list[str] = field(default_factory=list)
    models: set[str] = field(default_factory=set)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read meanwhile, read_committed."""
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._read(stop)))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    async def _read(self, stop: threading.Event) -> None:
        topic = self.world.settings.topics.propensity
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.world.bootstrap, isolation_level="read_committed"
        )
        async with consumer:
            partitions = [TopicPartition(topic, number) for number in self.world.partitions]
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            expected = dict.fromkeys(self.world.partitions, 0)
            while not stop.is_set():
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        prediction = decode(Prediction, record.value)
                        source = prediction.source
                        if source.offset != expected[source.partition]:
                            self.wrong.append(f"{source}, not {expected[source.partition]}")
                        expected[source.partition] = source.offset + 1
                        self.models.add(prediction.model_version)
                        self.counted += 1


def keep_small(world: World) -> None:
    """Let the broker delete and compact early: a soak writes more than it has to keep."""
    topics = world.settings.topics
    small = {"segment.bytes": str(32 * MIB)}
    logs = {**small, "retention.bytes": str(512 * MIB)}
    compacted = {**small, "min.cleanable.dirty.ratio": "0.1"}

    async def alter() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=world.bootstrap)
        await admin.start()
        try:
            for name, config in (
                (topics.events, {**logs, "message.timestamp.type": "LogAppendTime"}),
                (topics.propensity, logs),
                (world.settings.changelog, {**compacted, "cleanup.policy": "compact"}),
            ):
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, config)])
        finally:
            await admin.close()

    asyncio.run(alter())


def capacity(world: World, customers: Customers, backlog: int) -> tuple[float, float]:
    """Events per second that the worker got through, while they came or afterwards, and that this
    process could make and send."""
    for _ in range(2):  # the first time everybody is new
        began = time.monotonic()
        put(world, [customers.event()[1] for _ in range(backlog)])
        sent, waiting = time.monotonic(), customers.sent - world.committed()
        world.wait_committed(customers.sent)
    sender = backlog / (sent - began)
    return max(sender - waiting / (sent - began), waiting / (time.monotonic() - sent)), sender


@dataclass
class Curve:
    """A figure over time, from when it counts on."""

    values: list[float]

    @property
    def first(self) -> float:
        """Of the first quarter, in the middle."""
        return statistics.median(self.values[: max(len(self.values) // 4, 1)])

    @property
    def last(self) -> float:
        """Of the last quarter, in the middle."""
        return statistics.median(self.values[-max(len(self.values) // 4, 1) :])

    @property
    def highest(self) -> tuple[float, float]:
        """Of the first and of the second half."""
        middle = len(self.values) // 2
        return max(self.values[:middle]), max(self.values[middle:])


def test_nothing_grows(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random, scale: Scale
) -> None:
    shop = world(worker={"emit": "every"}, churn={"raise_at": 0.7, "raise_untrained": True})
    keep_small(shop)
    publish(shop, 0, "gru-0")
    customers, reader = Customers(shop, rng), Reader(shop)
    seen: list[Footprint] = []
    with fault_row.attempt() as attempt, reader.reading():
        worker = shop.start_worker()
        able, sender = capacity(shop, customers, backlog=scale(6000, 60_000))
        rate = min(able / 2, sender * SENDER_SHARE, MOST, scale(GENTLE, MOST))
        swaps = 0
        began = time.monotonic()
        with customers.coming(rate):
            while (now := time.monotonic() - began) < SECONDS:
                assert worker.process.poll() is None, worker.said()[-3000:]
                if now >= (swaps + 1) * SWAP_S:
                    swaps += 1
                    publish(shop, swaps, f"gru-{swaps}")
                    wait_for_log(worker, f"before=gru-{swaps - 1} model=gru-{swaps} ")
                if now >= SETTLED_S:
                    seen.append(Footprint.of(worker, shop))
                time.sleep(1)
        behind = customers.sent - shop.committed()
        shop.wait_committed(customers.sent)
        deadline = time.monotonic() + PATIENCE_S
        while reader.counted < customers.sent and time.monotonic() < deadline:
            time.sleep(0.2)
        worker.stop()
        attempt.lost = max(customers.sent - reader.counted, 0)
        attempt.duplicated = max(reader.counted - customers.sent, 0)
        assert not reader.wrong, reader.wrong[:3]
        assert len(reader.models) == swaps + 1

        memory = Curve([footprint.resident / MIB for footprint in seen])
        state = Curve([footprint.state / MIB for footprint in seen])
        files = Curve([float(footprint.files) for footprint in seen])
        told = (
            f"{SECONDS:.0f} s at {rate:.0f} of {able:.0f} events/s, {swaps} models;"
            f" from {SETTLED_S:.0f} s on: memory {memory.first:.0f} -> {memory.last:.0f} MiB,"
            f" RocksDB {state.highest[0]:.0f} -> {state.highest[1]:.0f} MiB (highest per half),"
            f" open files {files.first:.0f} -> {files.last:.0f}; {behind} events behind at the end"
        )
        attempt.note(told)
        assert memory.last <= memory.first * 1.05 + 16, told
        assert state.highest[1] <= state.highest[0] * 1.25 + 32, told
        assert files.last <= files.first + 8, told
        assert behind <= rate * HELD_UP_S, told
