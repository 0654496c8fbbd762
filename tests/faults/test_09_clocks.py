"""Repeated ids, disorder and wrong clocks: what is late, repeated or from the future is set aside
by the stated rules, and all else is as if nothing had been wrong."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from schemas.events import Event
from schemas.refused import DeadLetter, LateEvent
from tests.e2e.oracle import judge, judged_of
from tests.e2e.shop import publish, put
from tests.e2e.world import World
from tests.faults.ledger import FaultRow, Scale
from tests.logs import DAY, START, disordered, duplicated, shop_log

pytestmark = pytest.mark.kafka
ROW, NAME = 9, "10 % duplicate ids, +-10 min disorder, clocks off by a day"

HOUR = 3_600_000
DISORDER = 2 * 600_000
"""Each event is moved by up to ten minutes either way."""
SPAN = 2 * HOUR


def recent(log: list[Event], now: int) -> list[Event]:
    """The log as if it had been recorded in the last hours."""
    end = max(event.event_time for event in log)
    return [msgspec.structs.replace(e, event_time=now - end + e.event_time) for e in log]


def wrong_clocks(log: list[Event], rng: random.Random) -> list[Event]:
    """A twentieth of the events a day behind, a twentieth a day ahead, give or take some hours."""
    out = []
    for event in log:
        draw = rng.random()
        shift = 0 if draw > 0.1 else DAY * (1 if draw > 0.05 else -1)
        if shift and rng.random() < 0.3:
            shift += rng.randrange(-SPAN, SPAN)
        out.append(msgspec.structs.replace(event, event_time=event.event_time + shift))
    return out


@pytest.mark.parametrize("clock", ["wall", "event"])
def test_equal_to_the_oracle_under_the_stated_rules(
    clock: str, world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    for _ in range(scale(1, 2)):
        shop = world(
            worker={"clock": clock, "emit": "every", "batch_size": 128},
            churn={"prior_gap_ms": DAY, "tick_ms": HOUR, "raise_at": 0.6, "raise_untrained": True},
        )
        scorer = publish(shop)
        seed = rng.randrange(10**6)
        count = scale(1500, 6000)
        log = shop_log(seed, count, users=scale(60, 400), days=SPAN / DAY)
        assert log[0].event_time >= START
        log = wrong_clocks(recent(log, time.time_ns() // 1_000_000), rng)
        log = duplicated(disordered(log, seed, DISORDER), seed, 0.1)
        with fault_row.attempt() as attempt:
            worker = shop.start_worker()
            put(shop, log)
            shop.wait_committed(len(log))
            worker.stop()
            verdict, drivers = judge(shop, scorer)
            attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
            assert not verdict.wrong, verdict.wrong
        topics = shop.settings.topics
        letters = shop.read(topics.dead_letter, DeadLetter)
        assert {letter.reason.value for letter in letters} == (
            {"future"} if clock == "wall" else set()
        )
        _, totals = judged_of(shop)
        # Of those a day behind most are taken for history, of the others none is late for them.
        assert totals["late"] == len(shop.read(topics.late, LateEvent)) > 0
        assert totals["duplicate"] > len(log) // 30
        counters: Counter[str] = Counter()
        for driver in drivers.values():
            found = msgspec.structs.asdict(driver.pipeline.counters)
            counters.update({name: n for name, n in found.items() if isinstance(n, int)})
        assert counters["consumed"] == sum(totals.values()) + len(letters) == len(log)
