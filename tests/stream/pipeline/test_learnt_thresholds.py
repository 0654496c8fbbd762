"""A threshold that a model or its recalibration brings raises as the same setting would."""

from __future__ import annotations

import pytest

from models.serving.recalibration import Recalibration, Recalibrator
from models.serving.thresholds import Budget, RaiseAt
from stream.config.settings import ChurnSettings, Settings
from stream.pipeline.fallback import CheckedScorer
from stream.testing import PipelineDriver
from tests.logs import DAY, gru_scorer, shop_log

pytestmark = pytest.mark.slow

CHURN = {"cooldown_ms": DAY, "prior_gap_ms": DAY, "escalate_after_ms": DAY}
NOT_REACHED = {"raise_at": 0.9, "escalate_at": 0.95, "resolve_at": 0.3}
LEARNT = {"raise_at": 0.3, "escalate_at": 0.65, "resolve_at": 0.1}
"""What the thresholds become with a learnt 0.3: a third, and half of the rest."""


def alerts(
    rules: dict[str, float], own: RaiseAt | None = None, later: RaiseAt | None = None
) -> list[tuple[str, int, str]]:
    scorer = gru_scorer()
    scorer.raise_at = own
    checked = CheckedScorer(scorer)
    if later is not None:
        found = Recalibration("r", scorer.version, "", 1, 1, 1, raise_at=later)
        checked = checked.with_recalibration(Recalibrator(found, scorer.targets))
    settings = Settings(worker={"clock": "event"}, churn={**CHURN, **rules})
    driver = PipelineDriver(checked, settings)
    driver.pipe(shop_log(7, 1200), batch=100)
    return [(one.user_id, one.event_time, one.state) for one in driver.alerts()]


def test_the_models_threshold_raises_in_place_of_the_setting() -> None:
    expected = alerts(LEARNT)
    assert {state for *_, state in expected} >= {"raised", "resolved"}
    assert alerts(NOT_REACHED | {"target_precision": 0.7}, RaiseAt(0.7, 0.3)) == expected


def test_a_budget_raises_as_the_same_setting_would() -> None:
    budget = {"alert_budget_per_day": 4}
    found = RaiseAt(None, budget=Budget(4, 0.3))
    assert alerts(NOT_REACHED | budget, found) == alerts(LEARNT)
    earlier = RaiseAt(None, budget=Budget(4, 0.99))
    assert alerts(NOT_REACHED | budget, earlier, found) == alerts(LEARNT)


def test_of_precision_and_budget_the_stricter_one_raises() -> None:
    both = {"target_precision": 0.7, "alert_budget_per_day": 4}
    for risks in ((0.3, 0.1), (0.1, 0.3)):
        found = RaiseAt(0.7, risks[0], budget=Budget(4, risks[1]))
        assert alerts(NOT_REACHED | both, found) == alerts(LEARNT)


def test_that_of_the_recalibration_comes_first() -> None:
    asked = NOT_REACHED | {"target_precision": 0.7}
    assert alerts(asked, RaiseAt(0.7, 0.99), RaiseAt(0.7, 0.3)) == alerts(LEARNT)


@pytest.mark.parametrize(
    ("asked", "own"),
    [
        ({}, RaiseAt(0.7, 0.3)),
        ({"target_precision": 0.8}, RaiseAt(0.7, 0.3)),
        ({"target_precision": 0.7}, RaiseAt(0.7, None, "too few")),
        ({"target_precision": 0.7}, None),
        ({"alert_budget_per_day": 4}, RaiseAt(0.7, 0.3, budget=Budget(5, 0.3))),
    ],
    ids=["not asked for", "of another precision", "none found", "none tried", "of another budget"],
)
def test_without_one_the_setting_raises(asked: dict[str, float], own: RaiseAt | None) -> None:
    assert alerts(NOT_REACHED | asked, own) == alerts(NOT_REACHED)


def test_the_other_thresholds_lie_as_far_off_in_proportion() -> None:
    found = ChurnSettings(**NOT_REACHED).raising_at(0.3)
    assert {name: getattr(found, name) for name in LEARNT} == pytest.approx(LEARNT)
    highest = ChurnSettings(raise_at=1, escalate_at=1).raising_at(0.4)
    assert highest.resolve_at < highest.raise_at <= highest.escalate_at
