"""A worker killed between any two steps of its work: nothing lost, nothing visible twice."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

import pytest

from stream.faults import STAGES
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, put
from tests.e2e.world import World
from tests.faults.ledger import Attempt, FaultRow
from tests.logs import disordered, duplicated, shop_log
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.kafka
ROW, NAME = 1, "worker SIGKILL at each stage boundary"

KILLED_AT = tuple(stage for stage in STAGES if stage not in {"after_ack", "after_recovery"})
SHOP: dict[str, dict[str, object]] = {
    "worker": {"clock": "event", "emit": "every", "batch_size": 16, "commit_interval_ms": 20},
    "churn": {
        "prior_gap_ms": 86_400_000,
        "tick_ms": 3_600_000,
        "raise_at": 0.6,
        "raise_untrained": True,
    },
}


def killed_and_compared(
    shop: World, attempt: Attempt, kills: list[str], rng: random.Random
) -> None:
    """Kill a worker at each of the stages in turn, each time with work left to do."""
    scorer = publish(shop)
    seed = rng.randrange(10**6)
    log = duplicated(disordered(shop_log(seed, 900 + 400 * len(kills)), seed, 900_000), seed, 0.1)
    put(shop, log)
    for stage in kills:
        passage = rng.randrange(1, 4)
        worker = shop.start_worker(INTENTSTREAM_FAULT=f"{stage}:{passage}:kill")
        assert worker.process.wait(PATIENCE_S) == -signal.SIGKILL, worker.said()[-3000:]
    done = shop.committed()
    assert done < len(log), "nothing was left to do"
    with attempt.recovering():
        worker = shop.start_worker()
        shop.wait_committed(done + 1)
    shop.wait_committed(len(log))
    worker.stop()
    verdict, _ = judge(shop, scorer)
    attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
    assert not verdict.wrong, verdict.wrong


def test_killed_at_every_boundary_in_turn(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    kills = list(KILLED_AT)
    rng.shuffle(kills)
    with fault_row.attempt(times=len(kills)) as attempt:
        killed_and_compared(world(**SHOP), attempt, kills, rng)


@pytest.mark.faults(full=True)
@pytest.mark.parametrize("stage", KILLED_AT)
def test_killed_twenty_times_at_the_same_boundary(
    stage: str,
    world: Callable[..., World],
    fault_row: FaultRow,
    rng: random.Random,
) -> None:
    for _ in range(2):
        with fault_row.attempt(times=10) as attempt:
            killed_and_compared(world(**SHOP), attempt, [stage] * 10, rng)
