"""The table of rates on its topic: read before events are processed, and followed from then on.

A rate takes its place among the events by the brokers' times, as requests to erase do: it converts
the events that Kafka takes in after the end of the interval (`money.rates_settle_ms`) that follows
the one in which it was published. Until then every worker has read it, so it makes no difference
when a worker reads it, restarts, or reads the events again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import date
from math import nan
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from models.money import Rate, Rates
from schemas.codec import decode, encode
from schemas.errors import InvalidMessage
from schemas.rates import CurrencyRate
from stream.config.rates import rates_of
from stream.errors import BrokerError, SettingsError
from stream.kafka.diagnosis import unusable
from stream.kafka.same_topics import SameTopics
from stream.kafka.tail import open_bounds, open_tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiokafka import ConsumerRecord

    from stream.config.settings import Settings
    from stream.kafka.tail import Tail

__all__ = ["MAX_RATES", "RateFollower", "current_rates", "publish_rates", "rates_in"]

MAX_RATES: Final = 1_000_000
"""Rates of a table, at most: 50 currencies for 50 years of days."""
READ_TIMEOUT_S: Final = 30.0

log = structlog.get_logger(__name__)


def rates_in(records: Sequence[ConsumerRecord], settings: Settings) -> list[Rate]:
    """Rates into the shop's currency; what is none is logged and left out."""
    found = []
    for record in records:
        try:
            if (rate := _rate(record, settings)) is not None:
                found.append(rate)
        except (InvalidMessage, ValueError) as error:
            log.warning(
                "a record is no rate and is left out",
                topic=record.topic,
                offset=record.offset,
                reason=str(error),
            )
    return found


def _rate(record: ConsumerRecord, settings: Settings) -> Rate | None:
    """The rate of a record, None if it is into another currency; ValueError if it is none."""
    settle = settings.money.rates_settle_ms
    since = (record.timestamp // settle + 2) * settle
    key = (record.key or b"").decode()
    if record.value is None:
        currency, to, day = key.split("/")
        worth = nan
    else:
        message = decode(CurrencyRate, record.value)
        if key != message.key:
            raise ValueError(f"the record key is {key[:64]!r}, not {message.key!r}")
        currency, to, day, worth = message.currency, message.to, message.date, message.rate
    if to != settings.money.currency:
        return None
    if currency == to and worth != 1:
        raise ValueError(f"{to} is the shop's own currency, its rate is 1")
    return Rate(date.fromisoformat(day), currency, worth, since)


def _extend(rates: Rates, records: Sequence[ConsumerRecord], settings: Settings) -> None:
    rates.extend(rates_in(records, settings))
    if len(rates) > MAX_RATES:
        raise SettingsError(
            f"{settings.topics.rates} holds more than {MAX_RATES:,} rates into"
            f" {settings.money.currency}: keep one per currency and day"
        )


async def current_rates(settings: Settings) -> Rates:
    """The table of rates that the settings name, read to its present end.

    Raises:
        SettingsError: a file cannot be read, or the table is too large.
        BrokerError: no broker answers.
        TopicLayoutError: the topic does not exist.
    """
    rates = rates_of(settings.money)
    if settings.money.rates_topic:
        async with open_tail(settings, [settings.topics.rates], from_beginning=True) as tail:
            async for records in tail.read_to_end(READ_TIMEOUT_S):
                _extend(rates, records, settings)
    return rates


class RateFollower:
    """A companion of the worker that keeps its table of rates up to date."""

    def __init__(self, settings: Settings) -> None:
        """Read nothing; `start` does. A table that comes from a file is only held."""
        self._settings = settings
        self._topic = settings.topics.rates
        self._settle_s = settings.money.rates_settle_ms / 1000
        self._stack = AsyncExitStack()
        self._tail: Tail | None = None
        self._read_at = 0.0
        self._waiting = False
        self.rates = rates_of(settings.money)
        """Grows; shared by all partitions."""

    async def start(self) -> None:
        """Read the topic to its present end.

        Raises:
            BrokerError: no broker answers, or a transaction is left open on the topic.
            TopicLayoutError: the topic does not exist.
        """
        if not self._settings.money.rates_topic:
            return
        self._tail = await self._stack.enter_async_context(
            open_tail(self._settings, [self._topic], from_beginning=True)
        )
        began = time.monotonic()
        while not await self.read():
            if time.monotonic() - began > READ_TIMEOUT_S:
                raise BrokerError(
                    f"{self._topic} cannot be read to its end: check for a transaction left open"
                )
        log.info("rates are read", topic=self._topic, rates=len(self.rates))

    @property
    def ready(self) -> bool:
        """Whether every rate is known that events may need which have arrived by now."""
        # The rest of the interval is for the differences between the brokers' clocks.
        return self._tail is None or time.monotonic() - self._read_at <= self._settle_s / 2

    async def run(self, worker: Any) -> None:
        """Follow the topic until cancelled.

        Raises:
            TopicReplaced: it was deleted and created again.
        """
        del worker
        tail = self._tail
        if tail is None:
            await asyncio.Event().wait()
            return
        same = SameTopics([self._topic], tail.topic_ids)
        while True:
            await asyncio.sleep(min(self._settle_s / 10, 1.0))
            await same.check()
            try:
                await self.read()
            except (KafkaError, BrokerError, OSError) as error:
                # The watchdog decides whether the worker can go on without a broker.
                log.warning("rates cannot be read", topic=self._topic, error=str(error))
            if not self.ready and not self._waiting:
                log.warning("events wait until the rates are read to their end", topic=self._topic)
            self._waiting = not self.ready

    async def finish(self, worker: Any) -> None:
        """Disconnect."""
        del worker
        await self.close()

    async def close(self) -> None:
        """Disconnect; a second call does nothing."""
        await self._stack.aclose()

    async def read(self) -> bool:
        """Read to the present end; False where an open transaction keeps rates back.

        Raises:
            BrokerError: nothing comes, though there is more.
            KafkaError: no broker answers.
        """
        if self._tail is None:
            return True
        began = time.monotonic()
        async for records in self._tail.read_to_end(READ_TIMEOUT_S):
            _extend(self.rates, records, self._settings)
        if await self._tail.behind_high_water():
            return False
        self._read_at = began
        return True


async def publish_rates(settings: Settings, rates: Iterable[Rate]) -> int:
    """Send rates into the shop's currency to the topic; return how many.

    Raises:
        BrokerError: no broker takes them.
        TopicLayoutError: the topic does not exist.
    """
    money, topic = settings.money, settings.topics.rates
    messages = [
        CurrencyRate(
            currency=rate.currency, to=str(money.currency), date=str(rate.day), rate=rate.rate
        )
        for rate in rates
    ]
    async with open_bounds(settings, topic):
        pass  # A producer would wait long for a topic that is not there, or have it created.
    producer = AIOKafkaProducer(enable_idempotence=True, **settings.kafka.client_options())
    try:
        await producer.start()
        sent = [await producer.send(topic, encode(m), key=m.key.encode()) for m in messages]
        await asyncio.gather(*sent)
    except (KafkaError, OSError) as error:
        raise await unusable(settings.kafka, error) from error
    finally:
        await producer.stop()
    return len(messages)
