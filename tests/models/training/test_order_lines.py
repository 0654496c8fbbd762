"""Buyers of whom nothing can be known: the lines of their orders must not look like knowledge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.dataset import DatasetConfig
from models.errors import TrainingError
from models.fitting.fit import FitConfig
from models.history import PURCHASE, SessionRules
from models.log.eventlog import EventLog
from models.targets import shop_targets
from models.training.train import TrainConfig, Trained, train
from schemas.events import EventType
from tests.models.shop import DAY, START, orders_log

pytestmark = pytest.mark.slow

TARGETS = shop_targets(PURCHASE, 3 * DAY, 20 * DAY)
CONFIG = TrainConfig(
    dataset=DatasetConfig(history_length=16, silence_points=10, min_points=50),
    fit=FitConfig(epochs=2, patience=2, windows=64, learning_rate=3e-3),
    hidden_size=16,
    candidates=("logistic",),
)
USERS, DAYS = 250, 120


def memoryless(apart: int) -> EventLog:
    """Orders at one rate of all users, with 2 to 4 lines so many ms apart; views at any time."""
    rng = np.random.default_rng(6)
    rows = []
    for user in range(USERS):
        for moment in rng.uniform(0, DAYS, rng.poisson(0.05 * DAYS)):
            lines = range(int(rng.integers(2, 5)))
            rows += [(user, START + int(moment * DAY) + n * apart, PURCHASE, 0) for n in lines]
        for moment in rng.uniform(0, DAYS, rng.poisson(0.1 * DAYS)):
            rows.append((user, START + int(moment * DAY), int(EventType.VIEW), 0))
    return orders_log(rows, rng)


def run(log: EventLog, config: TrainConfig = CONFIG) -> Trained:
    return train(log, TARGETS, config, created_at=1_700_000_000_000, device="cpu")


@pytest.mark.parametrize("apart", [0, 7, 2_000])
def test_the_gate_refuses_a_model_that_knows_nothing(apart: int) -> None:
    with pytest.raises(TrainingError, match=r"better than base_rate \(purchase"):
        run(memoryless(apart))


@pytest.mark.parametrize("apart", [7, 2_000])
def test_lines_taken_for_orders_would_look_like_knowledge(apart: int) -> None:
    """So the test before can fail: it is the definition of an order that refuses the model."""
    by_line = replace(CONFIG, dataset=replace(CONFIG.dataset, sessions=SessionRules(gap=1)))
    refusal = ""
    try:
        found = run(memoryless(apart), by_line)
    except TrainingError as error:
        refusal = str(error)
    if refusal:
        # At timers alone the gate may find it out; of all examples it passes for knowledge.
        assert "failed: not worse than base_rate (purchase, timer)" in refusal
        assert "better than base_rate (purchase" not in refusal
        return
    assert "purchase" not in found.manifest.left_out
    mine = [check for check in found.card.checks if check.target == "purchase"]
    assert "better than base_rate" in {check.name for check in mine if check.passed}
