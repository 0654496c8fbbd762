"""Predictions of users who stay away, made when timers evaluate them."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import UNSET

from models.targets import SESSION, intent_targets
from schemas.codec import decode, encode
from schemas.events import Purchase
from schemas.outputs import Prediction
from stream.config.durations import DAY_MS
from stream.config.settings import Settings
from stream.pipeline.hidden import refresh
from stream.testing import PipelineDriver
from tests.logs import SPENDING, START, TARGETS, WAITING, gru_scorer, shop_log
from tests.models.profiles import profile_of
from tests.stream.pipeline.histories import at, purchases

pytestmark = pytest.mark.slow

WEEKS = range(0, 28, 7)


def settings(**worker: object) -> Settings:
    wanted = {"clock": "wall", "predict_at_timers": True, **worker}
    return Settings(worker=wanted, churn={"tick_ms": 3_600_000})


def away(driver: PipelineDriver, days: int = 90, users: int = 3) -> PipelineDriver:
    """Each user buys every week and stays away from the fourth time on."""
    for event in purchases(users, START, WEEKS):
        driver.pipe_raw([at(event, event.event_time)])
    for day in range(28, 28 + days):
        driver.advance(START + day * DAY_MS)
    return driver


def at_timers(driver: PipelineDriver) -> list[Prediction]:
    return [p for p in driver.predictions() if p.reason == "timer"]


@pytest.mark.parametrize("targets", [TARGETS, WAITING, SPENDING])
def test_the_model_predicts_at_the_time_of_the_timer(targets: tuple) -> None:
    scorer = gru_scorer(targets=targets)
    driver = away(PipelineDriver(scorer, settings()))
    found = at_timers(driver)
    assert len({p.user_id for p in found}) == 3
    record, rows = np.array([driver.records()["u0"]]), np.zeros(1, np.intp)
    refresh(record, rows, scorer)  # The state of a short history is not stored.
    for prediction in [p for p in found if p.user_id == "u0"]:
        now = prediction.state_time
        assert prediction.event_time == now > int(record["last_time"][0])
        hidden = record["hidden"][:, : scorer.hidden_size]
        said = scorer.probabilities(hidden, profile_of(record, rows, np.array([now])))[0]
        column = [target.name for target in targets].index("churn")
        assert prediction.targets["churn"].probability == pytest.approx(said[column], abs=1e-6)


def test_targets_that_apply_at_events_only_are_left_out() -> None:
    """A user who is not there has no session; a model of nothing else predicts nothing then."""
    intent = intent_targets(("purchase", "leave"), (SESSION,), 1_800_000, 7_200_000)
    scorer = gru_scorer(targets=(intent[0], *TARGETS, intent[1]))
    driver = away(PipelineDriver(scorer, settings()))
    here = [p for p in driver.predictions() if p.reason is UNSET]
    assert all({*p.targets} == {"purchase_in_session", "purchase", "churn", "leave"} for p in here)
    found = at_timers(driver)
    assert len({p.user_id for p in found}) == 3
    record, rows = np.array([driver.records()["u0"]]), np.zeros(1, np.intp)
    refresh(record, rows, scorer)  # The state of a short history is not stored.
    hidden = record["hidden"][:, : scorer.hidden_size]
    for prediction in found:
        assert list(prediction.targets) == ["purchase", "churn"]
        if prediction.user_id == "u0":
            profile = profile_of(record, rows, np.array([prediction.state_time]))
            said = scorer.probabilities(hidden, profile)[0, 1:3].tolist()
            told = [target.probability for target in prediction.targets.values()]
            assert told == pytest.approx(said, abs=1e-6)
    driver = away(PipelineDriver(gru_scorer(targets=intent), settings()))
    assert len(driver.predictions()) == 12
    assert at_timers(driver) == []


def test_times_between_predictions_grow_with_the_inactivity() -> None:
    # Of a raised alert nothing more is asked.
    never = {"raise_at": 0.999999, "escalate_at": 1.0, "tick_ms": 3_600_000}
    driver = PipelineDriver(gru_scorer(), Settings(worker=settings().worker, churn=never))
    times = [p.state_time for p in at_timers(away(driver, 300, 1))]
    last = START + 21 * DAY_MS
    assert 10 < len(times) < 45
    gaps = np.diff(times)
    assert (gaps[3:] >= 0.09 * (np.array(times[3:-1]) - last)).all()


def test_ids_are_unique_and_name_the_source_and_the_time() -> None:
    driver = away(PipelineDriver(gru_scorer(), settings()))
    everything = driver.predictions()
    assert len({p.prediction_id for p in everything}) == len(everything)
    newest = {p.user_id: p.source for p in everything if p.reason is UNSET}
    for prediction in at_timers(driver):
        assert prediction.source == newest[prediction.user_id]
        assert prediction.prediction_id.endswith(
            f":{prediction.source.offset}@{prediction.state_time}"
        )


def test_a_restart_changes_no_byte() -> None:
    plain, restarted = (PipelineDriver(gru_scorer(), settings()) for _ in range(2))
    away(plain)
    for event in purchases(3, START, WEEKS):
        restarted.pipe_raw([at(event, event.event_time)])
    for day in range(28, 118):
        restarted.advance(START + day * DAY_MS)
        restarted.restart()
    topic = plain.settings.topics.propensity
    assert list(map(bytes, values(restarted, topic))) == list(map(bytes, values(plain, topic)))


def values(driver: PipelineDriver, topic: str) -> list[bytes]:
    return [value for _, value in driver.outputs[topic]]


def test_batches_change_no_message() -> None:
    """On the event clock, where timers expire between events of one batch."""
    found = []
    for batch in (7, 500):
        driver = PipelineDriver(gru_scorer(), settings(clock="event", emit="every"))
        driver.pipe(shop_log(5, 400), batch=batch)
        found.append(sorted(map(bytes, values(driver, driver.settings.topics.propensity))))
        assert any(b'"timer"' in value for value in found[-1])
    assert found[0] == found[1]


def test_kernel_writes_what_msgspec_writes() -> None:
    driver = away(PipelineDriver(gru_scorer(targets=SPENDING), settings()))
    timers = [v for v in values(driver, driver.settings.topics.propensity) if b'"timer"' in v]
    assert len(timers) > 3
    assert all(encode(decode(Prediction, value)) == value for value in timers)


def test_odd_user_ids_are_written_too() -> None:
    driver = PipelineDriver(gru_scorer(), settings())
    for day in WEEKS:
        event = Purchase(
            event_id=str(day), user_id='a"b', event_time=START + day * DAY_MS, price=1.0
        )
        driver.pipe_raw([at(event, event.event_time)])
    driver.advance(START + 60 * DAY_MS)
    assert {p.user_id for p in at_timers(driver)} == {'a"b'}


def test_the_setting_turns_them_off() -> None:
    driver = away(PipelineDriver(gru_scorer(), settings(predict_at_timers=False)))
    assert at_timers(driver) == []
    assert len(driver.predictions()) == 12


def test_none_is_made_of_history() -> None:
    driver = PipelineDriver(gru_scorer(), settings(clock="auto"))
    loaded = purchases(5, START, range(0, 400, 7))
    driver.pipe_raw(at(event, START + 2_000 * DAY_MS) for event in loaded)
    assert at_timers(driver) == []
