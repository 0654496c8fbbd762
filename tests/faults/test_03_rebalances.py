"""Workers come and go under load, and an older release is replaced by a newer one meanwhile."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import msgspec
import pytest

from schemas.events import Event, Refund
from stream.pipeline.layout import LAYOUT_VERSION
from tests.e2e.oracle import judge
from tests.e2e.shop import publish
from tests.e2e.world import World
from tests.faults.ledger import Attempt, FaultRow, Scale
from tests.faults.traffic import (
    Traffic,
    goes_on,
    longest_without_owner,
    start_apart,
    tables,
    wait_for_log,
)
from tests.logs import disordered, duplicated, shop_log

pytestmark = pytest.mark.kafka
ROW, NAME = 3, "workers 1 -> 3 -> 2 -> 3 under load; rolling upgrade of the state's layout"

OPEN = "partition is open"
PARTITIONS = 4
OLD_RELEASE = [sys.executable, "-m", "tests.faults.layout_1"]
LONGEST_WITHOUT_OWNER_S = 30


def make_shop(world: Callable[..., World]) -> World:
    return world(
        worker={"clock": "event", "emit": "every", "batch_size": 256},
        churn={
            "prior_gap_ms": 86_400_000,
            "tick_ms": 3_600_000,
            "raise_at": 0.6,
            "raise_untrained": True,
        },
        topics={"partitions": PARTITIONS},
    )


def make_log(rng: random.Random, events: int) -> list[Event]:
    seed = rng.randrange(10**6)
    log = shop_log(seed, events, users=2000)
    return duplicated(disordered(log, seed, 900_000), seed, 0.1)


def known_to_layout_1(rng: random.Random, events: int) -> list[Event]:
    """What layout 1 can hold: no refunds and units of orders, and no more than the ring of a user.

    It has no place for what is left of orders whose lines left the ring.
    """
    seed, users = rng.randrange(10**6), events // 50
    log = [
        msgspec.structs.replace(event, user_id=f"user-{n % users}", quantity=1)
        for n, event in enumerate(shop_log(seed, events))
        if not isinstance(event, Refund)
    ]
    return duplicated(disordered(log, seed, 900_000), seed, 0.1)


def conclude(shop: World, attempt: Attempt, traffic: Traffic) -> None:
    """Let the workers finish and judge what they made of it."""
    shop.wait_committed(traffic.finish())
    for worker in shop.workers:
        if worker.process.poll() is None:
            worker.stop()
    attempt.recovered_in(longest_without_owner(shop.workers))
    assert attempt.recover_seconds is not None
    assert attempt.recover_seconds <= LONGEST_WITHOUT_OWNER_S


def test_one_three_two_three_workers(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    """The second comes before the first event: the group knows no offset of any partition yet."""
    shop = make_shop(world)
    scorer = publish(shop)
    log = make_log(rng, scale(20_000, 200_000))
    with fault_row.attempt(times=4) as attempt:
        first = start_apart(shop)
        wait_for_log(first, OPEN, PARTITIONS)
        second = start_apart(shop)
        wait_for_log(second, OPEN)
        with Traffic(shop, log, scale(200, 1500)) as traffic:
            goes_on(shop, second)
            wait_for_log(start_apart(shop), OPEN)
            second.stop()
            wait_for_log(start_apart(shop), OPEN)
            conclude(shop, attempt, traffic)
        verdict, _ = judge(shop, scorer, tables(shop))
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong


def test_rolling_upgrade_to_a_new_layout(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    shop = make_shop(world)
    scorer = publish(shop)
    log = known_to_layout_1(rng, scale(20_000, 200_000))
    with fault_row.attempt() as attempt, Traffic(shop, log, scale(200, 1500)) as traffic:
        old = [start_apart(shop, OLD_RELEASE) for _ in range(2)]
        for worker in old:
            wait_for_log(worker, OPEN)
        for worker in old:
            worker.stop()
            new = start_apart(shop)
            wait_for_log(new, OPEN)
        conclude(shop, attempt, traffic)
        verdict, _ = judge(shop, scorer, tables(shop))
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong
    records = [r for r in shop.raw(shop.settings.changelog) if r.key[:1] == b"u"]
    assert {r.value[0] for r in records if r.value} == {1, LAYOUT_VERSION}
