"""Partitions are added to the source topic: from then on users' events lie in other partitions
than their state, so a worker must stop before it writes anything about them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from schemas.outputs import Prediction
from schemas.refused import DeadLetter
from stream.pipeline.ingest import partition_of
from tests.e2e.oracle import valid_events
from tests.e2e.shop import publish, put
from tests.e2e.world import Worker, World
from tests.faults.ledger import FaultRow, Scale
from tests.faults.traffic import Traffic, tables
from tests.logs import shop_log

pytestmark = pytest.mark.kafka
ROW, NAME = 16, "partition count of the source topic raised"

RAISED_TO = 3
DETECTED_S = 30


def make_shop(world: Callable[..., World]) -> World:
    shop = world(worker={"clock": "event", "emit": "every", "batch_size": 64})
    publish(shop)
    return shop


def raise_partitions(shop: World) -> None:
    async def ask() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=shop.bootstrap)
        await admin.start()
        try:
            await admin.create_partitions(
                {shop.settings.topics.events: NewPartitions(total_count=RAISED_TO)}
            )
        finally:
            await admin.close()

    asyncio.run(ask())


def assert_refused(shop: World, worker: Worker) -> None:
    assert worker.process.wait(DETECTED_S) == 1, worker.said()[-3000:]
    (said,) = [line for line in worker.said().splitlines() if line.startswith("intentstream:")]
    assert shop.settings.topics.events in said
    assert "partition" in said
    assert "new app_id" in said


def assert_nothing_misplaced_was_written(shop: World) -> None:
    """What was written is about users whose partition is the same as ever."""
    assert shop.read(shop.settings.topics.dead_letter, DeadLetter) == []
    predictions = shop.read(shop.settings.topics.propensity, Prediction)
    for p in predictions:
        assert p.source.partition == partition_of(p.user_id.encode(), 2)
    assert len({p.prediction_id for p in predictions}) == len(predictions)
    assert set(tables(shop)) <= {p.user_id for p in predictions}


def test_raised_while_a_worker_runs(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    for _ in range(scale(1, 5)):
        shop = make_shop(world)
        seed = rng.randrange(10**6)
        before, after = shop_log(seed, 500, users=200), shop_log(seed + 1, 20_000, users=200)
        with fault_row.attempt() as attempt:
            worker = shop.start_worker()
            put(shop, before)
            shop.wait_committed(len(before))
            raise_partitions(shop)
            with Traffic(shop, after, 500, partitions=RAISED_TO), attempt.recovering():
                assert_refused(shop, worker)
            assert_nothing_misplaced_was_written(shop)
            restarted = shop.start_worker()
            assert_refused(shop, restarted)
            assert_nothing_misplaced_was_written(shop)


def test_raised_while_no_worker_runs(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    shop = make_shop(world)
    before = shop_log(rng.randrange(10**6), 200, users=50)
    with fault_row.attempt() as attempt:
        worker = shop.start_worker()
        put(shop, before)
        shop.wait_committed(len(before))
        worker.stop()
        raise_partitions(shop)
        with attempt.recovering():
            assert_refused(shop, shop.start_worker())
        # Nor does it help to tell the worker that there are more: the state says otherwise.
        settings = {"INTENTSTREAM_TOPICS__PARTITIONS": str(RAISED_TO)}
        assert_refused(shop, shop.start_worker(**settings))
        assert len(shop.read(shop.settings.topics.propensity, Prediction)) == len(before)
        assert set(tables(shop)) == {event.user_id for event in valid_events(shop)}
