"""Rates on their topic: read whole, followed, refused one by one, and published by the command."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from models.money import Rate, currency_code
from schemas.codec import encode
from schemas.rates import CurrencyRate
from stream.errors import BrokerError, TopicLayoutError
from stream.kafka import rates as module
from stream.kafka.rates import RateFollower, current_rates, publish_rates
from stream.kafka.topics import create_topics
from tests.patience import PATIENCE_S
from tests.stream.kafka.test_topics import settings_for
from tests.stream.kafka_tools import read_all

if TYPE_CHECKING:
    from pathlib import Path

    from stream.config.settings import Settings
    from tests.conftest import Kafka
    from tests.stream.training_tools import Cli

pytestmark = pytest.mark.kafka

JPY = CurrencyRate(currency="JPY", to="EUR", date="2024-01-01", rate=0.0064)


async def topic_of_rates(kafka: Kafka, **money: Any) -> Settings:
    settings = settings_for(kafka.bootstrap_servers, partitions=1)
    chosen = {"currency": "EUR", "rates_topic": True, "rates_settle_ms": 1000} | money
    settings = settings.model_copy(update={"money": settings.money.model_copy(update=chosen)})
    await create_topics(settings)
    return settings


async def send(settings: Settings, *records: tuple[str, bytes | None]) -> list[int]:
    """The brokers' times of the records."""
    options = settings.kafka.client_options()
    async with AIOKafkaProducer(**options) as producer:
        sent = [
            await producer.send_and_wait(settings.topics.rates, value, key=key.encode())
            for key, value in records
        ]
    return [record.timestamp for record in sent]


def worth(follower: RateFollower, taken: int, currency: str = "JPY") -> int | None:
    """Ten thousand units of the currency in 2025, for an event that came at this time."""
    amounts = np.array([100_000_000], np.int64)
    codes = np.array([currency_code(currency)], np.uint32)
    times = np.array([1_750_000_000_000], np.int64)
    converted, found = follower.rates.convert(amounts, codes, times, np.array([taken], np.int64))
    assert found is not None
    return None if found.unpriced else int(converted[0]) // 10_000


async def test_a_rate_holds_from_the_end_of_the_next_interval(kafka: Kafka) -> None:
    settings = await topic_of_rates(kafka)
    (at,) = await send(settings, (JPY.key, encode(JPY)))
    follower = RateFollower(settings)
    try:
        await follower.start()
        assert follower.ready
        since = (at // 1000 + 2) * 1000
        assert (worth(follower, since - 1), worth(follower, since)) == (None, 64)

        newer = CurrencyRate(currency="JPY", to="EUR", date="2024-01-01", rate=0.01)
        await asyncio.sleep(1)  # Of one interval only the last rate of a day holds.
        (at,) = await send(settings, (newer.key, encode(newer)))
        assert await follower.read()
        again = (at // 1000 + 2) * 1000
        assert [worth(follower, t) for t in (since, again - 1, again)] == [64, 64, 100]

        await asyncio.sleep(1)
        (at,) = await send(settings, (newer.key, None))
        assert await follower.read()
        gone = (at // 1000 + 2) * 1000
        assert [worth(follower, t) for t in (again, gone)] == [100, None]
    finally:
        await follower.close()


async def test_records_that_are_no_rates_are_left_out(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(module.log, "warning", lambda _, **more: said.append(more["reason"]))
    settings = await topic_of_rates(kafka)
    usd = CurrencyRate(currency="USD", to="EUR", date="2024-01-01", rate=0.9)
    other = CurrencyRate(currency="USD", to="GBP", date="2024-01-01", rate=0.8)
    bad = {
        "USD/EUR/2024-01-02": b'{"currency":"USD","to":"EUR","date":"2024-01-02","rate":0}',
        "USD/EUR/2024-02-31": b'{"currency":"USD","to":"EUR","date":"2024-02-31","rate":1.1}',
        "USD/EUR/2024-01-03": encode(usd),
        "USD/EUR/2024-01-04": b'{"currency":"USD","rate":NaN}',
        "EUR/EUR/2024-01-01": b'{"currency":"EUR","to":"EUR","date":"2024-01-01","rate":2}',
        "no key": None,
    }
    await send(settings, *bad.items(), (usd.key, encode(usd)), (other.key, encode(other)))
    (rate,) = (await current_rates(settings)).rows()
    assert rate[:3] == (date(2024, 1, 1), "USD", 0.9)
    assert len(said) == len(bad)
    assert "the record key is 'USD/EUR/2024-01-03'" in said[2]


async def test_events_wait_while_a_transaction_keeps_rates_back(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = await topic_of_rates(kafka)
    follower = RateFollower(settings)
    await follower.start()
    following = asyncio.create_task(follower.run(None))
    options = settings.kafka.client_options()
    producer = AIOKafkaProducer(transactional_id=settings.topics.rates, **options)
    try:
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(settings.topics.rates, encode(JPY), key=JPY.key.encode())
        await until(lambda: not follower.ready)
        monkeypatch.setattr(module, "READ_TIMEOUT_S", 1.0)
        with pytest.raises(BrokerError, match="check for a transaction left open"):
            await RateFollower(settings).start()
        await producer.commit_transaction()
        await until(lambda: follower.ready)
        assert len(follower.rates) == 1
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await producer.stop()
        await follower.close()


async def until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a_topic_that_is_missing_is_named(kafka: Kafka) -> None:
    settings = await topic_of_rates(kafka)
    topics = settings.topics.model_copy(update={"rates": "nowhere"})
    settings = settings.model_copy(update={"topics": topics})
    with pytest.raises(TopicLayoutError, match="topic nowhere is missing"):
        await current_rates(settings)
    with pytest.raises(TopicLayoutError, match="topic nowhere is missing"):
        await publish_rates(settings, [Rate(date(2024, 1, 1), "JPY", 0.006)])


def test_a_file_is_published_and_shown(kafka: Kafka, tmp_path: Path, cli: Cli) -> None:
    settings = asyncio.run(topic_of_rates(kafka))
    file = tmp_path / "rates.csv"
    file.write_text("date,currency,rate\n2024-01-01,JPY,0.0064\n2024-01-02,jpy,0.0063\n")
    config = tmp_path / "settings.toml"
    config.write_text(f'[topics]\nrates = "{settings.topics.rates}"\n')
    where = (
        "--bootstrap-servers",
        kafka.bootstrap_servers,
        "--config",
        str(config),
        "--currency",
        "eur",
    )
    _, err = cli("rates", "publish", str(file), *where[:4], code=1)
    assert "pass --currency" in err
    out, _ = cli("rates", "publish", str(file), *where)
    assert "2 rates into EUR sent" in out
    out, _ = cli("rates", "show", *where)
    assert [line.rsplit(",", 1)[0] for line in out.splitlines()[1:]] == [
        "2024-01-01,JPY,0.0064",
        "2024-01-02,JPY,0.0063",
    ]
    records = asyncio.run(read_all(kafka.bootstrap_servers, settings.topics.rates))
    assert [record.key for record in records] == [b"JPY/EUR/2024-01-01", b"JPY/EUR/2024-01-02"]
    file.write_text("date,currency,rate\n")
    assert "holds no rate" in cli("rates", "publish", str(file), *where, code=1)[1]
