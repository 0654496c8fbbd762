"""A model that fails while it serves: tried again, then an older one scores, marked stale."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from models.networks.gru import Gru
from models.serving.scorer import Scorer, network_spec
from schemas.events import Event
from schemas.outputs import Prediction
from stream.config.targets import targets_of
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, publish_network, put, wait_until
from tests.e2e.world import Worker, World
from tests.faults.failing import MODES, FailingGru
from tests.faults.ledger import Attempt, FaultRow, Scale
from tests.logs import TARGETS, disordered, duplicated, gru_scorer, random_gru, shop_log

pytestmark = pytest.mark.kafka
ROW, NAME = 8, "scorer raises, returns NaN or the wrong shape"

SHOP: dict[str, dict[str, object]] = {
    "worker": {"clock": "event", "emit": "every", "batch_size": 64, "commit_interval_ms": 20},
    "churn": {
        "prior_gap_ms": 86_400_000,
        "tick_ms": 3_600_000,
        "raise_at": 0.6,
        "raise_untrained": True,
    },
}
FAILS = MODES[:3]


def failing(mode: str, healthy: Gru) -> FailingGru:
    """The healthy network, failing in that way."""
    network = FailingGru(network_spec(TARGETS), mode).eval()
    with torch.no_grad():
        network.load_state_dict(healthy.state_dict())
    return network


def log_of(rng: random.Random, events: int) -> list[Event]:
    seed = rng.randrange(10**6)
    return duplicated(disordered(shop_log(seed, events), seed, 900_000), seed, 0.1)


def compare(shop: World, worker: Worker, scorer: Scorer, attempt: Attempt) -> list[Prediction]:
    """Stop, and demand what that model alone would have made of the log."""
    worker.stop()
    verdict, _ = judge(shop, scorer)
    attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
    assert not verdict.wrong, verdict.wrong
    return shop.read(shop.settings.topics.propensity, Prediction)


def test_the_last_good_model_scores_what_newer_ones_fail_on(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    shop = world(**SHOP)
    good = publish(shop)
    modes = list(FAILS) * scale(1, 4)
    parts = 1 + len(modes)
    log = log_of(rng, 250 * parts)
    size = -(-len(log) // parts)
    with fault_row.attempt(times=len(modes)) as attempt:
        worker = shop.start_worker()
        put(shop, log[:size])
        shop.wait_committed(size)
        for number, mode in enumerate(modes, 1):
            version = f"{mode}-{number}"
            publish_network(shop, failing(mode, random_gru(number)), version)
            wait_until(lambda version=version: f"model={version}" in worker.said())
            done = shop.committed()
            put(shop, log[number * size : (number + 1) * size])
            with attempt.recovering():
                shop.wait_committed(done + 1)
            shop.wait_committed(min((number + 1) * size, len(log)))
        predictions = compare(shop, worker, good, attempt)
    stale = sum(prediction.stale for prediction in predictions)
    assert 0 < len(predictions) - stale <= size
    assert stale
    assert worker.said().count("model is set aside") == len(modes)


def test_without_a_good_model_the_closed_form_takes_over(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    shop = world(**SHOP)
    publish_network(shop, failing("raises", random_gru(1)), "raises-1")
    log = log_of(rng, 300)
    with fault_row.attempt() as attempt:
        put(shop, log)
        worker = shop.start_worker()
        shop.wait_committed(len(log))
        rhythm = Scorer.rhythm(targets_of(shop.settings))
        predictions = compare(shop, worker, rhythm, attempt)
    assert all(prediction.stale and prediction.cold_start for prediction in predictions)


def test_what_fails_once_is_tried_again_and_the_model_stays(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    shop = world(**SHOP)
    publish_network(shop, failing("every-other-time", random_gru(2)), "flaky-1")
    twin = gru_scorer("flaky-1", 2)
    log = log_of(rng, 300)
    with fault_row.attempt() as attempt:
        put(shop, log)
        worker = shop.start_worker()
        shop.wait_committed(len(log))
        predictions = compare(shop, worker, twin, attempt)
    assert not any(prediction.stale for prediction in predictions)
    assert "the device is lost" in worker.said()
