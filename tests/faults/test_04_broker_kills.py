"""Brokers are killed: one of three again and again, then all at once. Nobody restarts a worker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Kafka
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, wait_until
from tests.e2e.world import World
from tests.faults.evidence import transactions
from tests.faults.ledger import FaultRow, Scale
from tests.faults.traffic import Traffic, goes_on
from tests.logs import disordered, duplicated, shop_log

pytestmark = pytest.mark.kafka
ROW, NAME = 4, "broker SIGKILL: one of three, again and again; all three at once"

NODES = (1, 2, 3)


@pytest.fixture
def cluster(kafka_cluster: Kafka) -> Kafka:
    """Three brokers, all running, also when a test before left one dead."""
    kafka_cluster.broker.start()
    return kafka_cluster


def test_brokers_die_and_come_back(
    cluster: Kafka,
    world: Callable[..., World],
    fault_row: FaultRow,
    scale: Scale,
    rng: random.Random,
) -> None:
    shop = world(
        on=cluster,
        worker={"clock": "event", "emit": "every", "batch_size": 64},
        churn={
            "prior_gap_ms": 86_400_000,
            "tick_ms": 3_600_000,
            "raise_at": 0.6,
            "raise_untrained": True,
        },
        topics={"replication": 3},
    )
    scorer = publish(shop)
    kills = scale(1, 10)
    seed = rng.randrange(10**6)
    log = duplicated(disordered(shop_log(seed, 100_000, users=2000), seed, 900_000), seed, 0.1)
    with fault_row.attempt(times=kills + 1) as attempt, Traffic(shop, log, 100) as traffic:
        worker = shop.start_worker()
        wait_until(lambda: shop.committed() > 200)
        for _ in range(kills):
            node = rng.choice(NODES)
            time.sleep(rng.random())
            cluster.broker.kill(node)
            attempt.recovered_in(goes_on(shop, worker))
            cluster.broker.restart(node)
        with ThreadPoolExecutor() as pool:
            list(pool.map(cluster.broker.kill, NODES))
        cluster.broker.start()
        attempt.recovered_in(goes_on(shop, worker))
        shop.wait_committed(traffic.finish())
        worker.stop()
        verdict, _ = judge(shop, scorer)
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, f"{verdict.wrong}\n{transactions(cluster.folder, shop)}"
