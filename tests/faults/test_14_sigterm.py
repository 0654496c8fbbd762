"""SIGTERM in the middle of a backlog: what is processed is committed, and nothing is repeated."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable

import pytest

from schemas.codec import decode
from schemas.outputs import Prediction
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, put
from tests.e2e.world import World
from tests.faults.ledger import FaultRow, Scale
from tests.faults.traffic import moments
from tests.logs import disordered, duplicated, shop_log
from tests.stream.kafka_tools import read_all

pytestmark = pytest.mark.kafka
ROW, NAME = 14, "SIGTERM under full load"

LONGEST_S = 30


def test_a_worker_ends_cleanly_in_the_middle_of_a_backlog(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    shop = world(
        worker={"clock": "event", "emit": "every", "batch_size": 512},
        churn={
            "prior_gap_ms": 86_400_000,
            "tick_ms": 3_600_000,
            "raise_at": 0.6,
            "raise_untrained": True,
        },
    )
    scorer = publish(shop)
    times = scale(1, 10)
    seed = rng.randrange(10**6)
    log = shop_log(seed, scale(6_000, 12_000) * times, users=2000)
    log = duplicated(disordered(log, seed, 900_000), seed, 0.1)
    put(shop, log)
    with fault_row.attempt(times=times) as attempt:
        done = 0
        for _ in range(times):
            worker = shop.start_worker()
            shop.wait_committed(done + 1)
            time.sleep(rng.random())
            began = time.monotonic()
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(LONGEST_S) == 0, worker.said()[-3000:]
            attempt.recovered_in(time.monotonic() - began)
            assert done < shop.committed() < len(log), "the load was not full"
            done = shop.committed()
        worker = shop.start_worker()
        shop.wait_committed(len(log))
        worker.stop()
        # Zero replay: not even a transaction that was aborted holds anything twice.
        written = asyncio.run(
            read_all(shop.bootstrap, shop.settings.topics.propensity, isolation="read_uncommitted")
        )
        ids = [decode(Prediction, record.value).prediction_id for record in written]
        assert len(ids) == len(set(ids)), "something was processed twice"
        for events in moments(shop.workers).values():
            assert [what for _, what in events] == ["open", "closed"] * (times + 1)
        verdict, _ = judge(shop, scorer)
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong
