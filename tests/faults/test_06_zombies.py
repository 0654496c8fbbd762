"""A worker that was frozen while another took over wakes up: it must change nothing, and end."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.e2e.oracle import judge
from tests.e2e.shop import publish, put, wait_until
from tests.e2e.world import Worker, World
from tests.faults.ledger import FaultRow
from tests.faults.traffic import start_apart, tables, wait_for_log
from tests.logs import disordered, duplicated, shop_log
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.kafka
ROW, NAME = 6, "worker SIGSTOP past its session while another takes over, then SIGCONT"

OPEN = "partition is open"
FROZEN_AT = ("after_scoring", "before_commit", "in_transaction", "before_store")
QUICKEST = ["in_transaction"]


def is_stopped(worker: Worker) -> bool:
    with open(f"/proc/{worker.process.pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize(
    "stage", [pytest.param(s, marks=pytest.mark.faults(full=s not in QUICKEST)) for s in FROZEN_AT]
)
def test_a_frozen_owner_wakes_up_too_late(
    stage: str, world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    shop = world(
        worker={"clock": "event", "emit": "every", "batch_size": 16, "commit_interval_ms": 20},
        churn={"prior_gap_ms": 86_400_000, "tick_ms": 3_600_000, "raise_at": 0.6},
    )
    scorer = publish(shop)
    seed = rng.randrange(10**6)
    log = duplicated(disordered(shop_log(seed, 3000), seed, 900_000), seed, 0.1)
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
        verdict, _ = judge(shop, scorer, tables(shop))
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong
