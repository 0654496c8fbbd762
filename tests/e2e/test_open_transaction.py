"""A customer who buys every few seconds behind a transaction that another producer leaves open."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer

from schemas.codec import encode
from schemas.control import WorkerStatus
from schemas.events import Purchase
from schemas.outputs import ChurnAlert
from stream.broker.process import free_ports
from stream.operations.status_report import open_status
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.world import Worker, World

pytestmark = pytest.mark.kafka

EVERY_S = 3.0
SECTIONS = {
    "topics": {"partitions": 1},
    "state": {"session_gap_ms": 1000},
    # Whoever has bought twice is raised once two of their gaps have passed.
    "churn": {
        "raise_at": 0.05,
        "raise_untrained": True,
        "resolve_at": 0.01,
        "min_gap_ms": 1000,
        "prior_gap_ms": 3000,
        "gap_factor": 2.0,
        "holdout_share": 0.0,
    },
}


class Lag(NamedTuple):
    """Records behind, and whether a transaction blocks, in the three places that show it."""

    status: int
    metrics: int
    heartbeat: int
    blocked: tuple[bool, bool, bool]


def lag(shop: World, port: int) -> Lag | None:
    """None while one of them shows nothing yet."""

    async def report() -> tuple[int, list[str], WorkerStatus | None]:
        async with open_status(shop.settings) as reader:
            found = await reader.read()
            return found.lag, found.alarms, found.partitions[0].heartbeat

    behind, alarms, beat = asyncio.run(report())
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            text = page.read().decode()
    except (urllib.error.URLError, OSError):
        return None
    gauges = dict(re.findall(r'^intentstream_(\w+)\{partition="0"\} (\S+)$', text, re.MULTILINE))
    if beat is None or not {"lag_records", "blocked"} <= gauges.keys():
        return None
    blocked = (
        any("blocked by an open transaction" in alarm for alarm in alarms),
        float(gauges["blocked"]) == 1,
        beat.blocked_at is not None,
    )
    return Lag(behind, int(float(gauges["lag_records"])), beat.high_water - beat.offset, blocked)


def until(shop: World, worker: Worker, port: int, holds: Callable[[Lag], bool]) -> Lag:
    deadline, found = time.monotonic() + PATIENCE_S, None
    while found is None or not holds(found):
        assert worker.process.poll() is None, worker.said()[-3000:]
        assert time.monotonic() < deadline, (found, worker.said()[-3000:])
        time.sleep(0.2)
        found = lag(shop, port)
    return found


def bought(user: str) -> bytes:
    now = time.time_ns() // 1_000_000
    return encode(Purchase(event_id=f"{user}-{now}", user_id=user, event_time=now, price=5.0))


@contextlib.contextmanager
def buying(shop: World, *users: str) -> Iterator[None]:
    """Purchases of each user every few seconds, by a producer without transactions."""

    async def buy(stop: asyncio.Event) -> None:
        async with AIOKafkaProducer(bootstrap_servers=shop.bootstrap) as producer:
            while not stop.is_set():
                for user in users:
                    await producer.send(shop.settings.topics.events, bought(user), user.encode())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), EVERY_S)

    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(buy(stop),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def left_open(shop: World) -> AIOKafkaProducer:
    """The producer of a transaction with one event."""
    producer = AIOKafkaProducer(
        bootstrap_servers=shop.bootstrap, transactional_id=shop.settings.app_id
    )
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(shop.settings.topics.events, bought("tx"), b"tx")
    return producer


@pytest.mark.full
@pytest.mark.parametrize("ending", ["commit", "abort"])
def test_a_customer_behind_an_open_transaction_is_active(
    world: Callable[..., World], ending: str
) -> None:
    (port,) = free_ports(1)
    shop = world(**SECTIONS, worker={"http_port": port})
    churn = shop.settings.topics.churn
    loop = asyncio.new_event_loop()
    producer = None
    try:
        worker = shop.start_worker()
        with buying(shop, "bob", "ann"):
            shop.wait_committed(8)
        with buying(shop, "ann"):
            producer = loop.run_until_complete(left_open(shop))
            # Long enough for four times the gap of either customer.
            blocked = until(
                shop,
                worker,
                port,
                lambda seen: (
                    seen.blocked == (True,) * 3
                    and seen.status == seen.metrics == seen.heartbeat >= 5
                ),
            )
            assert blocked.status >= 5
            assert shop.read(churn, ChurnAlert) == []
            loop.run_until_complete(getattr(producer, f"{ending}_transaction")())
            # He has been away for long; she has not.
            alerts = shop.wait_for(churn, ChurnAlert, 1)
            assert {alert.user_id for alert in alerts} <= {"bob", "tx"}
        # Behind the last event lies the transaction's end, or nothing but it.
        until(shop, worker, port, lambda seen: seen == Lag(0, 0, 0, (False,) * 3))
        worker.stop()
    finally:
        if producer is not None:
            loop.run_until_complete(producer.stop())
        loop.close()
