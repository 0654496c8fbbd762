"""Alerts over a change of the model: a model alone raises nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest

from models.encoding import hash64
from models.inputs.features import PROFILE_FEATURES
from models.populations import TIMER
from models.serving.recalibration import BetaMap, Recalibration, Recalibrator
from models.steps import Steps
from schemas.events import Purchase, View
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import DAY, START, TARGETS, gru_scorer, passers_by, shop_log

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
    raises: bool = True
    recalibration: Recalibrator | None = None
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
        days = np.expm1(profile[:, SILENCE]) / 24
        risk = self.base + self.per_view * np.expm1(profile[:, VIEWS]) + self.per_day * days
        risk = np.clip(risk, 0, 1).astype(np.float32)
        return np.stack([1 - risk, risk], axis=1)


def settings(**churn: object) -> Settings:
    """On the event clock, where a shop that was closed for most of a year goes on."""
    worker = {"clock": "event", "emit": "every", "history_gap_ms": 365 * DAY}
    return Settings(worker=worker, churn={"min_orders": 1, **churn})


def bought(at: float = 0.0) -> Purchase:
    return Purchase(event_id=f"p{at}", user_id="ann", event_time=START + int(at * DAY), price=9.0)


def seen(at: float) -> View:
    return View(event_id=f"v{at}", user_id="ann", event_time=START + int(at * DAY))


def causes(driver: PipelineDriver) -> list[tuple[str, str]]:
    return [(a.state, a.cause) for a in driver.alerts() if a.user_id == "ann"]


def over_a_swap(old: Says, new: Says, *after: object, **churn: object) -> PipelineDriver:
    driver = PipelineDriver(old, settings(**churn))
    driver.pipe([bought(), seen(0.5)])
    driver.pipeline.replace_scorer(new)
    driver.pipe(list(after))
    return driver


class TestAModelAlone:
    @pytest.mark.parametrize("after", [[seen(0.6), bought(0.7)], passers_by(30), passers_by(300)])
    def test_raises_nothing(self, after: list[object]) -> None:
        driver = over_a_swap(Says("old", 0.5), Says("new", 0.8), *after)
        assert causes(driver) == []

    def test_raises_nothing_after_a_dwell(self) -> None:
        driver = over_a_swap(Says("old", 0.5), Says("new", 0.8), *passers_by(90), dwell_ms=DAY)
        assert causes(driver) == []

    @pytest.mark.parametrize("days", [30, 300])
    def test_raises_where_a_setting_lets_it(self, days: int) -> None:
        old, new = Says("old", 0.5), Says("new", 0.8)
        driver = over_a_swap(old, new, *passers_by(days), raise_on_model_change=True)
        assert causes(driver) == [("raised", "model_change")]

    def test_raises_nothing_in_a_worker_that_restarted(self) -> None:
        driver = PipelineDriver(Says("old", 0.5), settings())
        driver.pipe([bought(), seen(0.5)])
        driver._scorer = Says("new", 0.8)
        driver.restart()
        driver.pipe(passers_by(90))
        assert causes(driver) == []


def bent(model: Says, c: float) -> Says:
    """The same model with a map of its risk at timers: its log-odds and `c`."""
    found = Recalibration(
        version=f"map-{c}",
        model_version=model.version,
        model_digest="0" * 64,
        created_at=START,
        until=START,
        window_ms=DAY,
        maps={TIMER: {"churn": BetaMap(1.0, 1.0, c)}},
    )
    return replace(model, recalibration=Recalibrator(found, TARGETS))


class TestARecalibrationAlone:
    @pytest.mark.parametrize("days", [30, 300])
    def test_raises_nothing(self, days: int) -> None:
        model = Says("only", 0.5)
        driver = over_a_swap(model, bent(model, 2.0), *passers_by(days))
        assert causes(driver) == []

    def test_raises_with_inactivity_and_without_model_change(self) -> None:
        model = Says("only", 0.5, per_day=0.004)
        driver = over_a_swap(model, bent(model, 2.0), *passers_by(300))
        assert causes(driver)[0] == ("raised", "silence")
        (raised,) = (a for a in driver.alerts() if a.state == "raised" and a.user_id == "ann")
        assert raised.recalibration == "map-2.0"

    def test_raises_as_inactivity_does_where_changes_may(self) -> None:
        model = Says("only", 0.5)
        driver = over_a_swap(model, bent(model, 2.0), *passers_by(300), raise_on_model_change=True)
        assert causes(driver)[0] == ("raised", "silence")

    def test_resolves_without_model_change(self) -> None:
        model = Says("only", 0.8)
        driver = PipelineDriver(model, settings(escalate_after_ms=5 * DAY))
        driver.pipe([bought(), seen(0.5), *passers_by(25)])
        assert causes(driver) == [("raised", "silence")]
        driver.pipeline.replace_scorer(bent(model, -4.0))
        driver.pipe(passers_by(60))
        assert causes(driver)[1:] == [("resolved", "silence")]

    def test_of_the_old_model_does_not_hide_a_change_of_the_model(self) -> None:
        old = bent(Says("old", 0.5), 0.5)
        driver = over_a_swap(old, Says("new", 0.8), *passers_by(300), raise_on_model_change=True)
        assert causes(driver)[0] == ("raised", "model_change")

    def test_is_told_in_predictions_from_then_on(self) -> None:
        model = Says("only", 0.5)
        driver = over_a_swap(model, bent(model, 2.0), seen(0.6))
        told = [p.recalibration for p in driver.predictions() if p.user_id == "ann"]
        assert told == [msgspec.UNSET, msgspec.UNSET, "map-2.0"]
        assert {p.targets["churn"].probability for p in driver.predictions()} == {0.5}, (
            "at events there is no map"
        )


class TestInactivity:
    def test_raises_whatever_the_model(self) -> None:
        # At the first timer both models find the risk high: with inactivity it was not.
        old, new = Says("old", 0.3, per_day=0.05), Says("new", 0.3, per_day=0.06)
        driver = over_a_swap(old, new, *passers_by(30))
        assert causes(driver)[0] == ("raised", "silence")

    def test_raises_by_the_new_model_after_an_event(self) -> None:
        driver = over_a_swap(Says("old", 0.2), Says("new", 0.8), seen(0.6), *passers_by(30))
        assert causes(driver)[0] == ("raised", "silence")

    def test_raises_at_a_timer_never_at_an_event(self) -> None:
        driver = PipelineDriver(Says("only", 0.99), settings())
        driver.pipe([bought(), seen(0.1), bought(0.2)], batch=1)
        assert causes(driver) == []
        driver.pipe(passers_by(30))
        (alert,) = (a for a in driver.alerts() if a.user_id == "ann" and a.state == "raised")
        assert alert.silence_ms >= driver.settings.churn.min_gap_ms


class TestWhatIsOpen:
    def driver(self, new: Says, *after: object) -> PipelineDriver:
        driver = PipelineDriver(Says("old", 0.8), settings(escalate_after_ms=5 * DAY))
        driver.pipe([bought(), seen(0.5), *passers_by(25)])
        assert causes(driver) == [("raised", "silence")]
        driver.pipeline.replace_scorer(new)
        driver.pipe(list(after))
        return driver

    def test_is_resolved_by_the_model_alone(self) -> None:
        driver = self.driver(Says("new", 0.1), *passers_by(40))
        assert causes(driver)[1:] == [("resolved", "model_change")]

    def test_is_resolved_by_a_purchase_whatever_the_model(self) -> None:
        driver = self.driver(Says("new", 0.1), bought(25.6))
        assert causes(driver)[1:] == [("resolved", "behaviour")]

    def test_is_escalated_by_inactivity_a_timer_later(self) -> None:
        driver = self.driver(Says("new", 0.95), *passers_by(27.5))
        assert causes(driver)[1:] == []
        driver.pipe(passers_by(90))
        assert causes(driver)[1:] == [("escalated", "silence")]

    def test_is_not_escalated_at_an_event(self) -> None:
        driver = self.driver(Says("new", 0.95), seen(35), *passers_by(36))
        assert causes(driver)[1:] == []

    def test_stays_between_the_thresholds(self) -> None:
        driver = self.driver(Says("new", 0.5), seen(25.6), seen(25.7), *passers_by(60))
        assert causes(driver)[1:] == []


@pytest.mark.parametrize("batch", [1, 2])
def test_a_purchase_re_arms_whatever_came_before_it(batch: int) -> None:
    driver = PipelineDriver(Says("only", 0.0, per_day=0.1), settings(cooldown_ms=DAY))
    driver.pipe([bought(), *passers_by(9), seen(9)], batch=1)
    assert causes(driver) == [("raised", "silence"), ("resolved", "behaviour")]
    assert driver.records()["ann"]["disarmed"]
    driver.pipe([seen(14), bought(14.001)], batch=batch)
    assert not driver.records()["ann"]["disarmed"]
    driver.pipe(passers_by(90))
    assert causes(driver)[2:] == [("raised", "silence"), ("escalated", "silence")]


@pytest.mark.slow
def test_a_restart_at_a_swap_changes_no_alert() -> None:
    """What the old model found is in the record: no worker has to remember the model itself."""
    log = shop_log(5, 400)
    told = []
    for restarts in (False, True):
        driver = PipelineDriver(gru_scorer("a", seed=1), settings())
        driver.pipe(log[:200])
        driver.pipeline.replace_scorer(gru_scorer("b", seed=2))
        if restarts:
            driver._scorer = gru_scorer("b", seed=2)
            driver.restart()
        driver.pipe(log[200:])
        told.append([(a.alert_id, a.cause) for a in driver.alerts()])
    assert told[0] == told[1]
    assert told[0]


@pytest.mark.slow
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
    assert {cause for _, cause in told[0]} >= {"behaviour", "silence"}
