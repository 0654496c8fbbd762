"""Chaos: three workers that are killed at random, four kinds of producers, a replay meanwhile."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas.codec import encode
from stream.pipeline.ingest import partition_of
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, wait_until
from tests.faults.traffic import tables, wait_for_log
from tests.logs import DAY, disordered, duplicated, shop_log
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from schemas.events import Event
    from tests.e2e.world import Worker, World
    from tests.faults.ledger import FaultRow, Scale

pytestmark = pytest.mark.kafka
ROW = 18
NAME = (
    "chaos: 3 workers killed at random; compressed, transactional, idempotent producers; a replay"
)

PARTITIONS, WORKERS = 8, 3
PRODUCERS: tuple[dict[str, object], ...] = (
    {"compression_type": "lz4", "enable_idempotence": True},
    {"compression_type": "zstd", "transactional_id": "shop"},
    {"compression_type": "snappy"},
    {"compression_type": "gzip", "transactional_id": "till"},
)
CHUNK = 25
KILL_S = 8
"""About how long a kill and the recovery from it take: the log lasts as long as the kills."""
ABORTED = 7
"""A transactional producer aborts every so many transactions and sends their events again."""
FIVE_YEARS = 5 * 365 * DAY


def replayed(rng: random.Random, events: int) -> list[Event]:
    """A history of other users that ended five years before the log begins."""
    return [
        msgspec.structs.replace(
            event,
            event_id=f"old-{event.event_id}",
            user_id=f"old-{event.user_id}",
            event_time=event.event_time - FIVE_YEARS,
        )
        for event in shop_log(rng.randrange(10**6), events, users=60)
    ]


def chunks(log: list[Event]) -> Iterator[list[Event]]:
    for start in range(0, len(log), CHUNK):
        yield log[start : start + CHUNK]


async def send(shop: World, log: list[Event], kind: dict[str, object], seconds: float) -> None:
    """Send a log with one kind of producer, a chunk (one transaction) at a time, for `seconds`."""
    options = dict(kind)
    if (name := options.get("transactional_id")) is not None:
        options["transactional_id"] = f"{shop.settings.app_id}-{name}"
    producer = AIOKafkaProducer(bootstrap_servers=shop.bootstrap, linger_ms=5, **options)

    async def send_chunk(chunk: list[Event]) -> None:
        for event in chunk:
            key = event.user_id.encode()
            partition = partition_of(key, PARTITIONS)
            await producer.send(
                shop.settings.topics.events, encode(event), key=key, partition=partition
            )

    async with producer:
        for number, chunk in enumerate(chunks(log)):
            if name is None:
                await send_chunk(chunk)
            else:
                if number % ABORTED == 0:
                    await producer.begin_transaction()
                    await send_chunk(chunk)
                    await producer.abort_transaction()
                async with producer.transaction():
                    await send_chunk(chunk)
            await asyncio.sleep(seconds * CHUNK / len(log))


async def produce(shop: World, log: list[Event], old: list[Event], seconds: float) -> None:
    """Each user's events come from one producer; the replay begins when half of the log is sent."""
    shares: dict[int, list[Event]] = defaultdict(list)
    for event in log:
        shares[partition_of(event.user_id.encode(), len(PRODUCERS))].append(event)

    async def replay() -> None:
        await asyncio.sleep(seconds / 2)
        await send(shop, old, PRODUCERS[0], seconds / 4)

    sending = [send(shop, shares[n], kind, seconds) for n, kind in enumerate(PRODUCERS)]
    await asyncio.gather(*sending, replay())


def start(shop: World, folder: int) -> Worker:
    """Start a worker on one of the data folders, one per machine."""
    return shop.start_worker(INTENTSTREAM_DATA_DIR=str(shop.folder / f"machine-{folder}"))


def covered(shop: World) -> bool:
    """Whether the committed offset of each partition is behind its last event."""
    ends: dict[int, int] = defaultdict(int)
    for record in shop.raw(shop.settings.topics.events):
        ends[record.partition] = max(ends[record.partition], record.offset + 1)
    done = shop.committed_offsets()
    return all(done.get(partition, 0) >= end for partition, end in ends.items())


def test_chaos_gives_the_outputs_of_a_serial_run(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    shop = world(
        worker={"clock": "event", "emit": "every", "batch_size": 64},
        churn={"prior_gap_ms": DAY, "tick_ms": 3_600_000, "raise_at": 0.6, "raise_untrained": True},
        topics={"partitions": PARTITIONS},
    )
    scorer = publish(shop)
    kills = scale(2, 20)
    seed = rng.randrange(10**6)
    log = shop_log(seed, scale(4_000, 60_000), users=300)
    log = duplicated(disordered(log, seed, 600_000), seed, 0.1)
    old = replayed(rng, scale(1_000, 5_000))
    with fault_row.attempt(times=kills) as attempt:
        workers = [start(shop, n) for n in range(WORKERS)]
        wait_for_log(workers[0], "partition is open")
        failed: list[BaseException] = []
        sending = threading.Thread(
            target=_collect, args=(failed, produce(shop, log, old, KILL_S * kills))
        )
        sending.start()
        for _ in range(kills):
            time.sleep(rng.uniform(1, 3))
            n = rng.randrange(WORKERS)
            done = shop.committed()
            workers[n].kill()
            with attempt.recovering():
                workers[n] = start(shop, n)
                wait_until(lambda done=done: shop.committed() > done or not sending.is_alive())
        sending.join()
        assert not failed, failed
        wait_until(lambda: covered(shop), PATIENCE_S)
        for worker in workers:
            worker.stop()
        verdict, drivers = judge(shop, scorer, tables(shop))
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong
        events = sum(driver.pipeline.counters.consumed for driver in drivers.values())
        attempt.note(
            f"{events} events, {kills} kills of {WORKERS} workers on {PARTITIONS} partitions"
        )


def _collect(failed: list[BaseException], sending) -> None:
    try:
        asyncio.run(sending)
    except BaseException as error:  # noqa: BLE001 - shown by the test
        failed.append(error)
