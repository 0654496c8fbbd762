"""Hazards tell horizons that they were not fitted for, and the wait, as the truth has them."""

from __future__ import annotations

import pytest

from models.evaluation.contest import ContestConfig
from models.evaluation.simulated_return import EDGES, HORIZONS, JUDGED, evaluate, targets
from models.fitting.fit import FitConfig
from tests.models.evaluation.test_simulated_shop import shop

pytestmark = pytest.mark.slow


def test_one_model_of_hazards_is_as_good_as_a_head_for_the_horizon() -> None:
    config = ContestConfig(
        seeds=(0,), networks=("logistic", "blend", "lru"), fit=FitConfig(logistic_steps=60)
    )
    (result,) = evaluate(shop(users=800, days=90), config, lambda _: None)
    assert set(result.models) == {
        *("base_rate", "bg_nbd"),
        *("logistic", "logistic_by_horizon", "blend", "blend_by_horizon"),
    }
    for name in ("logistic", "blend"):
        hazards, head = (result.models[n].mean("log_loss") for n in (name, f"{name}_by_horizon"))
        assert hazards < head + 0.01
        assert hazards < result.models["base_rate"].mean("log_loss") - 0.1
        # Every user waits for days; the models know how many, and are right on average.
        assert result.models[name].mean("wait_error_days") < 1.0
        assert abs(result.models[name].mean("wait_bias_days")) < 0.3
    assert result.models["base_rate"].mean("wait_error_days") > 2.0
    truth = result.reference["true_hazard"]
    assert truth.mean("wait_error_days") == 0
    assert truth.mean("log_loss") < result.models[result.default].mean("log_loss") + 0.01
    assert sum(note.startswith("ECE of") for note in result.notes) == len(result.models) + 1


def test_the_judged_horizon_is_none_that_a_bin_ends_at() -> None:
    assert JUDGED not in EDGES
    assert max(HORIZONS) <= EDGES[-1]
    assert [target.horizon_ms for target in targets()] == [*EDGES, *HORIZONS]
