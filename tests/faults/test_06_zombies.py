"""A worker that was frozen while another took over wakes up: it must change nothing.

If it was about to change something, it ends.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from models.serving.scorer import Scorer
from schemas.events import Event
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, put, wait_until
from tests.e2e.world import Worker, World
from tests.faults.ledger import Attempt, FaultRow
from tests.faults.traffic import start_apart, tables, wait_for_log
from tests.logs import disordered, duplicated, shop_log
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.kafka
ROW, NAME = 6, "worker SIGSTOP past its session while another takes over, then SIGCONT"

OPEN = "partition is open"
FROZEN_AT = ("after_scoring", "before_commit", "in_transaction", "before_store")
QUICKEST = ["in_transaction"]


SETTINGS: Final[dict[str, Any]] = {
    "worker": {"clock": "event", "emit": "every", "batch_size": 16, "commit_interval_ms": 20},
    "churn": {
        "prior_gap_ms": 86_400_000,
        "tick_ms": 3_600_000,
        "raise_at": 0.6,
        "raise_untrained": True,
    },
}


def some_log(rng: random.Random) -> list[Event]:
    seed = rng.randrange(10**6)
    return duplicated(disordered(shop_log(seed, 3000), seed, 900_000), seed, 0.1)


def all_is_right(shop: World, scorer: Scorer, attempt: Attempt) -> None:
    verdict, _ = judge(shop, scorer, tables(shop))
    attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
    assert not verdict.wrong, verdict.wrong


def is_stopped(worker: Worker) -> bool:
    with open(f"/proc/{worker.process.pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize(
    "stage", [pytest.param(s, marks=pytest.mark.faults(full=s not in QUICKEST)) for s in FROZEN_AT]
)
def test_a_frozen_owner_wakes_up_too_late(
    stage: str, world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    shop = world(**SETTINGS)
    scorer, log = publish(shop), some_log(rng)
    with fault_row.attempt() as attempt:
        zombie = start_apart(shop, INTENTSTREAM_FAULT=f"{stage}:{rng.randrange(2, 5)}:stop")
        wait_for_log(zombie, OPEN, 2)
        heir = start_apart(shop)
        wait_for_log(heir, OPEN)
        put(shop, log)
        wait_until(lambda: is_stopped(zombie))
        frozen_at = time.monotonic()
        wait_for_log(heir, OPEN, 3)
        attempt.recovered_in(time.monotonic() - frozen_at)
        shop.wait_committed(len(log))
        seen = shop.raw(shop.settings.topics.propensity)
        zombie.process.send_signal(signal.SIGCONT)
        assert zombie.process.wait(PATIENCE_S) > 0, zombie.said()[-3000:]
        assert "intentstream: " in zombie.said().splitlines()[-1]
        assert len(shop.raw(shop.settings.topics.propensity)) == len(seen)
        heir.stop()
        all_is_right(shop, scorer, attempt)


def test_frozen_while_it_closes_with_nothing_to_commit(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    """Nothing of it is at stake: it may join the group again, or end, but change nothing."""
    shop = world(**SETTINGS)
    scorer, log = publish(shop), some_log(rng)
    with fault_row.attempt() as attempt:
        zombie = start_apart(shop, INTENTSTREAM_FAULT="in_confirmation:1:stop")
        wait_for_log(zombie, OPEN, 2)
        heir = start_apart(shop)
        wait_until(lambda: is_stopped(zombie))
        frozen_at = time.monotonic()
        wait_for_log(heir, OPEN, 2)
        attempt.recovered_in(time.monotonic() - frozen_at)
        put(shop, log)
        shop.wait_committed(len(log))
        seen = shop.raw(shop.settings.topics.propensity)
        zombie.process.send_signal(signal.SIGCONT)
        wait_until(lambda: zombie.process.poll() is not None or zombie.said().count(OPEN) > 2)
        assert len(shop.raw(shop.settings.topics.propensity)) == len(seen)
        for worker in (zombie, heir):
            if worker.process.poll() is None:
                worker.stop()
        all_is_right(shop, scorer, attempt)
