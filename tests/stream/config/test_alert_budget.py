"""A budget of alerts is a positive number a day, of users on whom somebody may act."""

from __future__ import annotations

import pytest

from models.serving.thresholds import Wanted
from models.training.recalibrate import WIDER
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.config.targets import wanted_of
from stream.errors import SettingsError
from stream.learning.trainer import budget_of, timers_of


@pytest.mark.parametrize(
    ("churn", "why"),
    [
        ({"alert_budget_per_day": 0}, "churn.alert_budget_per_day"),
        ({"alert_budget_per_day": -3}, "churn.alert_budget_per_day"),
        ({"alert_budget_per_day": "inf"}, "churn.alert_budget_per_day"),
        ({"alert_budget_per_day": "many"}, "churn.alert_budget_per_day"),
        ({"alert_budget_per_day": 5, "holdout_share": 1}, "lower that, or unset the budget"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(churn: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        load_settings(None, {"churn": churn})


def test_the_trainer_learns_from_the_settings_rules() -> None:
    settings = Settings(
        churn={"alert_budget_per_day": 3, "holdout_share": 0.25, "dwell_ms": "2d"},
        recalibrate={"window_ms": "3d"},
    )
    found = budget_of(settings)
    assert found is not None
    assert (found.per_day, found.treated) == (3, 0.75)
    assert found.dwell_ms == 2 * 86_400_000
    assert found.window_ms == WIDER * 3 * 86_400_000
    timers = timers_of(settings)
    assert timers is not None
    assert timers.counted_ms == found.window_ms
    assert wanted_of(settings.churn) == Wanted(None, 3)


def test_without_a_budget_none_is_learnt() -> None:
    assert budget_of(Settings()) is None
    assert timers_of(Settings()) is None
    assert not wanted_of(Settings().churn)
