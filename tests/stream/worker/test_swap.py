"""Alerts over a change of the model: what only the model changed is never told of the user."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from models.encoding import hash64
from models.inputs.features import PROFILE_FEATURES
from models.steps import Steps
from schemas.events import Purchase, View
from stream.config.settings import Settings
from stream.pipeline.rollout import Serving
from stream.testing import PipelineDriver
from tests.logs import DAY, START, TARGETS, gru_scorer, shop_log

HOUR = 3_600_000
SILENCE = PROFILE_FEATURES.index("log_silence_hours")
VIEWS = PROFILE_FEATURES.index("log_views")


@dataclass
class Says:
    """A model whose risk is a base, more with each view and with silence."""

    version: str
    base: float
    per_view: float = 0.0
    per_day: float = 0.0
    code: int = 0
    targets: tuple = TARGETS
    hidden_size: int = 0
    history_length: int = 8
    rebuilds: int = 0
    overlaps: bool = False
    recurrent: bool = True
    ranks: tuple = ()
    shown: int = 0
    feature_version: str = "1"
    cold_start: bool = False
    asked: int = 0
    reference_profile: np.ndarray = field(
        default_factory=lambda: np.zeros(len(PROFILE_FEATURES), np.float32)
    )

    def __post_init__(self) -> None:
        self.code = hash64(self.version)

    def encode(self, ids: np.ndarray, nums: np.ndarray, length: np.ndarray) -> np.ndarray:
        return np.zeros((len(ids), 0), np.float32)

    def advance(self, stored: np.ndarray, steps: Steps) -> np.ndarray:
        return np.zeros((len(steps), 0), np.float32)

    def probabilities(self, hidden: np.ndarray, profile: np.ndarray) -> np.ndarray:
        self.asked += len(profile)
        days = np.expm1(profile[:, SILENCE]) / 24
        risk = self.base + self.per_view * np.expm1(profile[:, VIEWS]) + self.per_day * days
        risk = np.clip(risk, 0, 1).astype(np.float32)
        return np.stack([1 - risk, risk], axis=1)


def settings(**churn: object) -> Settings:
    return Settings(worker={"clock": "event", "emit": "every"}, churn={"min_orders": 1, **churn})


def bought(at: float = 0.0) -> Purchase:
    return Purchase(event_id=f"p{at}", user_id="ann", event_time=START + int(at * DAY), price=9.0)


def seen(at: float) -> View:
    return View(event_id=f"v{at}", user_id="ann", event_time=START + int(at * DAY))


def someone(at: float) -> View:
    """Moves the clock."""
    return View(event_id=f"c{at}", user_id="clock", event_time=START + int(at * DAY))


def causes(driver: PipelineDriver) -> list[tuple[str, str]]:
    return [(a.state, a.cause) for a in driver.alerts() if a.user_id == "ann"]


def over_a_swap(old: Says, new: Says, *after: object, **churn: object) -> PipelineDriver:
    driver = PipelineDriver(old, settings(**churn))
    driver.pipe([bought(), seen(0.5)])
    driver.pipeline.replace_scorer(new)
    driver.pipe(list(after))
    return driver


class TestRaised:
    def test_by_the_model_alone(self) -> None:
        driver = over_a_swap(Says("old", 0.5), Says("new", 0.8), seen(0.6))
        assert causes(driver) == [("raised", "model_change")]

    def test_by_the_user_whatever_the_model(self) -> None:
        # The old model too would raise it at this view.
        old, new = Says("old", 0.3, per_view=0.2), Says("new", 0.3, per_view=0.25)
        driver = over_a_swap(old, new, seen(0.6))
        assert causes(driver) == [("raised", "behaviour")]

    def test_by_silence_whatever_the_model(self) -> None:
        old, new = Says("old", 0.4, per_day=0.02), Says("new", 0.5, per_day=0.02)
        driver = over_a_swap(old, new, someone(30))
        assert causes(driver)[0] == ("raised", "silence")

    def test_in_silence_by_the_model_alone(self) -> None:
        driver = over_a_swap(Says("old", 0.4), Says("new", 0.8), someone(30))
        assert causes(driver) == [("raised", "model_change")]

    def test_by_the_model_alone_after_a_dwell(self) -> None:
        driver = over_a_swap(Says("old", 0.5), Says("new", 0.8), seen(0.6), seen(2), dwell_ms=DAY)
        assert causes(driver) == [("raised", "model_change")]

    def test_by_the_user_after_the_first_look_of_the_new_model(self) -> None:
        old, new = Says("old", 0.2), Says("new", 0.4, per_view=0.1)
        driver = over_a_swap(old, new, seen(0.6), seen(0.7))
        assert causes(driver) == [("raised", "behaviour")]


class TestWhatIsOpen:
    def driver(self, new: Says, *after: object) -> PipelineDriver:
        return over_a_swap(Says("old", 0.8), new, *after, escalate_after_ms=DAY)

    def test_is_resolved_by_the_model_alone(self) -> None:
        driver = self.driver(Says("new", 0.1), seen(0.6))
        assert causes(driver) == [("raised", "behaviour"), ("resolved", "model_change")]

    def test_is_resolved_by_a_purchase_whatever_the_model(self) -> None:
        driver = self.driver(Says("new", 0.1), bought(0.6))
        assert causes(driver) == [("raised", "behaviour"), ("resolved", "behaviour")]

    def test_is_escalated_by_the_model_alone(self) -> None:
        driver = self.driver(Says("new", 0.95), seen(2))
        assert causes(driver) == [("raised", "behaviour"), ("escalated", "model_change")]

    def test_stays_between_the_thresholds(self) -> None:
        driver = self.driver(Says("new", 0.5), seen(0.6), seen(0.7))
        assert causes(driver) == [("raised", "behaviour")]


class TestTheOldModel:
    def test_is_not_asked_where_nothing_moves_and_once_where_it_does(self) -> None:
        old = Says("old", 0.5)
        driver = over_a_swap(old, Says("new", 0.6), seen(0.6))
        asked = old.asked
        driver.pipe([seen(0.7)])
        assert old.asked == asked == 2
        old = Says("old", 0.5)
        assert causes(over_a_swap(old, Says("new", 0.8), seen(0.6), seen(0.7)))
        assert old.asked == 3

    def test_speaks_by_what_it_said_last_when_it_is_gone(self) -> None:
        driver = PipelineDriver(Says("old", 0.5), settings())
        driver.pipe([bought(), seen(0.5)])
        # A worker that begins anew with another model.
        driver._scorer = Says("new", 0.8)
        driver.restart()
        driver.pipe([seen(0.6)])
        assert causes(driver) == [("raised", "model_change")]

    def test_is_handed_to_a_partition_that_opens_later(self) -> None:
        old, new = Says("old", 0.3, per_view=0.2), Says("new", 0.3, per_view=0.25)
        driver = PipelineDriver(old, settings())
        driver.pipe([bought(), seen(0.5)])
        driver._scorer = Serving(new, before=(old,))
        driver.restart()
        driver.pipe([seen(0.6)])
        # What it said last would make it a change of the model.
        assert causes(driver) == [("raised", "behaviour")]


@pytest.mark.parametrize("batch", [1, 200])
def test_what_is_told_over_a_swap_does_not_depend_on_the_batches(batch: int) -> None:
    log = shop_log(5, 400)
    told = []
    for size in (37, batch):
        driver = PipelineDriver(gru_scorer("a", seed=1), settings())
        driver.pipe(log[:200], batch=size)
        driver.pipeline.replace_scorer(gru_scorer("b", seed=2))
        driver.pipe(log[200:], batch=size)
        told.append(sorted((a.alert_id, a.cause) for a in driver.alerts()))
    assert told[0] == told[1]
    assert {cause for _, cause in told[0]} >= {"behaviour", "model_change"}
