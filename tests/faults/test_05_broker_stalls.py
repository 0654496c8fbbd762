"""The broker stands still (SIGSTOP): nothing is answered, nothing is refused, time goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from stream.pipeline.outbox import decode_meta
from stream.pipeline.state import META_KEY
from tests.conftest import Kafka
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, wait_until
from tests.e2e.world import World
from tests.faults.ledger import FaultRow, Scale
from tests.faults.traffic import Traffic, goes_on
from tests.logs import disordered, duplicated, shop_log

pytestmark = pytest.mark.kafka
ROW, NAME = 5, "broker stalled 5, 30 and 120 s (SIGSTOP)"

GUARANTEES = (
    "exactly_once",
    pytest.param("at_least_once", marks=pytest.mark.faults(full=True)),
)


@contextlib.contextmanager
def stalled(kafka: Kafka) -> Iterator[None]:
    pids = [node.pid for node in kafka.broker.status() if node.pid is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def durable_offsets(shop: World) -> dict[int, int]:
    """Partition -> next source offset according to the changelog."""
    newest = {r.partition: r.value for r in shop.raw(shop.settings.changelog) if r.key == META_KEY}
    return {partition: decode_meta(value).source_offset for partition, value in newest.items()}


def assert_changelog_leads(shop: World) -> None:
    committed = shop.committed_offsets()
    durable = durable_offsets(shop)
    for partition, offset in committed.items():
        assert offset <= durable.get(partition, 0), "committed beyond the durable changelog"


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_the_committed_offset_never_passes_the_changelog(
    guarantee: str,
    kafka: Kafka,
    world: Callable[..., World],
    fault_row: FaultRow,
    scale: Scale,
    rng: random.Random,
) -> None:
    shop = world(
        worker={"clock": "event", "emit": "every", "batch_size": 64, "guarantee": guarantee},
        churn={
            "prior_gap_ms": 86_400_000,
            "tick_ms": 3_600_000,
            "raise_at": 0.6,
            "raise_untrained": True,
        },
    )
    scorer = publish(shop)
    seed = rng.randrange(10**6)
    log = duplicated(disordered(shop_log(seed, 60_000, users=2000), seed, 900_000), seed, 0.1)
    stalls = scale([5], [5, 5, 30, 120])
    with fault_row.attempt(times=len(stalls)) as attempt:
        worker = shop.start_worker()
        with Traffic(shop, log, 200) as traffic:
            wait_until(lambda: shop.committed() > 200)
            for seconds in stalls:
                time.sleep(rng.random())
                with stalled(kafka):
                    time.sleep(seconds)
                assert_changelog_leads(shop)
                attempt.recovered_in(goes_on(shop, worker))
                assert_changelog_leads(shop)
            with stalled(kafka):
                time.sleep(1)
                worker.kill()
            # The next worker ends the transaction that this one may have left open: until then
            # nobody can read past it.
            worker = shop.start_worker()
            assert_changelog_leads(shop)
            shop.wait_committed(traffic.finish())
        worker.stop()
        assert_changelog_leads(shop)
        verdict, _ = judge(shop, scorer, repeats=guarantee == "at_least_once")
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong
