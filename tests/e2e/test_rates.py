"""Rates on a topic, real workers: killed, restored, read again; trainer and outcomes alike."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.history import AMOUNT_UNIT
from schemas.codec import encode
from schemas.events import Purchase
from schemas.rates import CurrencyRate
from stream.kafka.rates import current_rates
from stream.kafka.topics import create_topics
from stream.learning.logreader import KafkaLog
from stream.outcomes.order_times import line_of
from tests.e2e.world import World
from tests.stream.kafka_tools import produce

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.kafka

SETTLE_S = 1.0
START = 1_750_000_000_000


def publish(world: World, rate: float) -> None:
    """And wait until it holds."""
    message = CurrencyRate(currency="JPY", to="EUR", date="2024-01-01", rate=rate)
    record = (message.key.encode(), encode(message))
    asyncio.run(produce(world.bootstrap, world.settings.topics.rates, [record]))
    time.sleep(2 * SETTLE_S + 0.2)


def buy(world: World, n: int) -> None:
    """For 15,000 JPY, a day after the purchase before."""
    event = Purchase(
        event_id=f"e{n}",
        user_id="ann",
        event_time=START + n * 86_400_000,
        price=15_000,
        currency="JPY",
    )
    record = (b"ann", encode(event))
    asyncio.run(produce(world.bootstrap, world.settings.topics.events, [record]))


def spend(world: World) -> float:
    return float(world.records()["ann"]["spend"]) / AMOUNT_UNIT


@pytest.mark.full
def test_each_event_keeps_the_rate_of_its_arrival(world: Callable[..., World]) -> None:
    shop = world(
        topics={"partitions": 1},
        money={
            "currency": "EUR",
            "rates_topic": True,
            "rates_settle_ms": round(1000 * SETTLE_S),
        },
    )
    worker = shop.start_worker()
    buy(shop, 0)
    shop.wait_committed(1)
    for n, rate in enumerate((1 / 150, 1 / 100), 1):
        publish(shop, rate)
        buy(shop, n)
        shop.wait_committed(n + 1)
    worker.kill()
    # State from the changelog, rates from their topic: nothing of both is local.
    shutil.rmtree(shop.settings.data_dir)
    worker = shop.start_worker()
    buy(shop, 3)
    shop.wait_committed(4)
    worker.stop()
    assert spend(shop) == 0 + 100 + 150 + 150

    # A new app reads all events when all rates are there.
    settings = shop.settings.model_copy(
        update={
            "app_id": f"{shop.settings.app_id}-again",
            "data_dir": shop.settings.data_dir / "again",
        }
    )
    again = World(shop.folder / "again", shop.bootstrap, settings)
    again.folder.mkdir()
    again.write_config()
    asyncio.run(create_topics(settings))
    shop.workers.append(worker := again.start_worker())
    again.wait_committed(4)
    worker.stop()
    assert spend(again) == spend(shop)

    # The trainer, and outcomes, which know all rates too.
    (log,) = asyncio.run(KafkaLog(shop.settings).read()).parts()
    worths = [0, 100 * AMOUNT_UNIT, 150 * AMOUNT_UNIT, 150 * AMOUNT_UNIT]
    assert log.events.amount.tolist() == worths
    rates = asyncio.run(current_rates(shop.settings))
    for record, expected in zip(shop.raw(shop.settings.topics.events), worths, strict=True):
        event = Purchase(
            event_id="e", user_id="ann", event_time=START, price=15_000, currency="JPY"
        )
        line = line_of(event, rates=rates, taken=record.timestamp)
        assert line is not None
        assert line.amount == np.float32(expected / AMOUNT_UNIT)
