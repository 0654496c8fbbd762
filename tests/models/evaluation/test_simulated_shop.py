"""The truth is shown beside the models and is never the default."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.contest import ContestConfig
from models.evaluation.simulated_shop import DAY, SimulatedShop, evaluate, protocol
from models.fitting.fit import FitConfig
from tests.models.shop import PURCHASE, START, log_of

pytestmark = pytest.mark.slow

DAYS, USERS = 60, 150


def shop(users: int = USERS, days: int = DAYS) -> SimulatedShop:
    """Poisson purchases at rates of 0.05 to 2 a day."""
    rng = np.random.default_rng(0)
    rates = np.exp(rng.uniform(np.log(0.05), np.log(2), users))
    who, times = [], []
    for user, rate in enumerate(rates):
        moments = np.sort(rng.uniform(0, days, rng.poisson(rate * days)))
        times += [START, *(START + (moments * DAY).astype(np.int64)).tolist()]
        who += [user] * (len(moments) + 1)

    def probability(who: np.ndarray, when: np.ndarray, horizon: int) -> np.ndarray:
        del when
        return -np.expm1(-rates[who.astype(np.int64) - 1] * horizon / DAY)

    return SimulatedShop(log_of(who, times, [PURCHASE] * len(who)), probability, START, days)


def test_models_come_near_the_truth() -> None:
    config = ContestConfig(
        seeds=(0,), networks=("logistic", "blend", "lru"), fit=FitConfig(logistic_steps=60)
    )
    (result,) = evaluate(shop(), config, lambda _: None)
    truth = result.reference["true_hazard"]
    best = result.models[result.default]
    assert result.default != "true_hazard"
    assert "lru" not in result.models
    assert best.mean("auroc") > truth.mean("auroc") - 0.03
    assert truth.mean("log_loss") < result.models["base_rate"].mean("log_loss")
    assert "true_hazard" in result.to_json()["reference"]
    assert any("away from the truth" in note for note in result.notes)


def test_the_test_ends_with_the_data() -> None:
    at = protocol(SimulatedShop(log_of([], [], []), lambda u, t, h: u * 0.0, START, DAYS))
    assert max(at.test) + DAY == START + DAYS * DAY
    assert max(at.train) + DAY == min(at.test)
