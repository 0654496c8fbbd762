"""What the broker is asked to wait for, by how often records come."""

from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaConsumer

from stream.broker import EmbeddedKafka
from stream.kafka.clients import stop_consumer
from stream.kafka.pace import FETCH_WAIT_MS, GATHER_BYTES, GATHER_MS, Pace


class Paced:
    """A pace on a clock that is moved by hand, over a fetcher that only has its numbers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fetcher = SimpleNamespace(_fetch_min_bytes=1, _fetch_max_wait_ms=FETCH_WAIT_MS)
        consumer = SimpleNamespace(_fetcher=self.fetcher)
        self._pace = Pace(consumer, lambda: self.now)  # type: ignore[arg-type]

    def fetches(self, seconds: float, per_second: float) -> tuple[int, int]:
        """What is asked for after records came at this rate."""
        for _ in range(round(seconds * 20)):
            self.now += 0.05
            self._pace.note(round(per_second / 20))
        return self.fetcher._fetch_min_bytes, self.fetcher._fetch_max_wait_ms


def test_records_that_come_often_are_gathered_and_rare_ones_are_not() -> None:
    paced = Paced()
    assert paced.fetches(2, 100) == (1, FETCH_WAIT_MS)
    assert paced.fetches(2, 1_000) == (GATHER_BYTES, GATHER_MS)
    assert paced.fetches(2, 100_000) == (GATHER_BYTES, GATHER_MS)
    assert paced.fetches(2, 100) == (1, FETCH_WAIT_MS)
    assert paced.fetches(2, 0) == (1, FETCH_WAIT_MS)


def test_a_single_fetch_says_nothing() -> None:
    paced = Paced()
    assert paced.fetches(0.1, 100_000) == (1, FETCH_WAIT_MS)


@pytest.mark.kafka
async def test_a_started_consumer_is_told(kafka: EmbeddedKafka) -> None:
    """The numbers are aiokafka's own names: a release that renames them must be noticed."""
    now = 0.0
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, fetch_min_bytes=1)
    pace = Pace(consumer, lambda: now)
    await consumer.start()
    try:
        fetcher = consumer._fetcher
        assert fetcher._fetch_min_bytes == 1
        now = 1.0
        pace.note(1_000)
        assert fetcher._fetch_min_bytes == GATHER_BYTES
        assert fetcher._fetch_max_wait_ms == GATHER_MS
    finally:
        await stop_consumer(consumer)
