"""What is told of a model's numbers: most as they are, and of hazards what follows from them."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import UNSET

from models.data.spend import spend_target
from models.history import AMOUNT_UNIT
from models.serving.scorer import Scorer
from models.survival import expected_wait, hazard_targets, survival
from schemas.outputs import Prediction
from stream.kernels.predictions import DIGITS
from stream.pipeline.readout import readout_of
from stream.testing import PipelineDriver
from tests.logs import DAY, SPENDING, TARGETS, WAITING, gru_scorer, raw, shop_log
from tests.stream.pipeline.test_pipeline import settings

pytestmark = pytest.mark.slow

EDGES = (2 * DAY, 7 * DAY, 28 * DAY)
UNITS = 10**DIGITS


def told(driver: PipelineDriver) -> list[Prediction]:
    driver.pipe(shop_log(3, 400), batch=50)
    return driver.predictions()


def test_without_hazards_all_is_told_as_it_is() -> None:
    readout = readout_of(TARGETS)
    assert (readout.targets, readout.bins) == (TARGETS, None)
    scores, waits, spend = readout.read(np.array([[0.25, 1.0], [0.0, 0.5]], np.float32))
    assert scores.tolist() == [[UNITS // 4, UNITS], [0, UNITS // 2]]
    assert len(waits) == len(spend) == 0


def test_hazards_are_told_by_what_follows_from_them_wherever_they_stand() -> None:
    first, *rest = hazard_targets(6, EDGES)
    mixed = (TARGETS[0], first, TARGETS[1], *rest)
    said = np.array([[0.25, 0.5, 0.75, 0.125, 0.0625]], np.float32)
    readout = readout_of(mixed)
    assert readout.targets == TARGETS
    scores, waits, _ = readout.read(said)
    hazards = said[:, [1, 3, 4]]
    after = [float(survival(hazards, EDGES, edge)[0]) for edge in EDGES]
    assert scores[0] / UNITS == pytest.approx([0.25, 0.75, *after], abs=1e-7)
    assert waits[0] == round(float(expected_wait(hazards, EDGES)[0]))


def test_a_prediction_tells_the_wait_and_no_bin() -> None:
    predictions = told(PipelineDriver(gru_scorer(targets=WAITING), settings()))
    assert len(predictions) > 300
    for prediction in predictions:
        assert set(prediction.targets) == {"purchase", "churn"}
        assert [point.horizon_ms for point in prediction.survival] == list(EDGES)
        falling = [point.probability for point in prediction.survival]
        assert falling == sorted(falling, reverse=True)
        # The curve falls, so its area lies between those of its lower and its upper steps.
        steps = np.diff([0, *EDGES])
        assert steps @ falling <= prediction.expected_wait_ms <= steps @ [1, *falling[:-1]]
    assert len({prediction.expected_wait_ms for prediction in predictions}) > 100


def test_a_share_is_told_in_currency() -> None:
    readout = readout_of((spend_target(6, DAY, 1_000), *TARGETS))
    said = np.array([[0.125, 0.25, 0.5], [0.0, 0.5, 0.5], [1.0, 0.5, 0.5]], np.float32)
    scores, waits, spend = readout.read(said)
    assert readout.targets == TARGETS
    assert (scores[0] / UNITS).tolist() == [0.25, 0.5]
    assert (spend / AMOUNT_UNIT).tolist() == [125, 0, 1_000]
    assert len(waits) == 0


def test_a_prediction_tells_the_expected_spend() -> None:
    predictions = told(PipelineDriver(gru_scorer(targets=SPENDING), settings()))
    assert len(predictions) > 300
    for prediction in predictions:
        assert set(prediction.targets) == {"purchase", "churn"}
        assert prediction.expected_wait_ms > 0
        assert 0 < prediction.expected_spend < 5_000
        assert prediction.expected_spend == round(prediction.expected_spend, 4)
    assert len({prediction.expected_spend for prediction in predictions}) > 100


def test_a_currency_stands_beside_the_expected_spend() -> None:
    in_pounds = settings(money={"currency": "GBP"})
    driver = PipelineDriver(gru_scorer(targets=SPENDING), in_pounds)
    assert {prediction.currency for prediction in told(driver)} == {"GBP"}
    assert {
        prediction.currency for prediction in told(PipelineDriver(gru_scorer(), in_pounds))
    } == {UNSET}


def test_a_model_without_hazards_says_nothing_of_a_wait_in_no_byte_more() -> None:
    driver = PipelineDriver(gru_scorer(), settings())
    for prediction in told(driver):
        assert prediction.expected_wait_ms is prediction.survival is UNSET
        assert prediction.expected_spend is None
    values = [value for _, value in driver.outputs[driver.settings.topics.propensity]]
    assert not any(b"wait" in value or b"survival" in value for value in values)


def test_user_ids_that_need_escapes_are_told_the_same() -> None:
    """These take another way than the kernel's."""
    in_pounds = settings(money={"currency": "GBP"})
    plain, odd = (PipelineDriver(gru_scorer(targets=SPENDING), in_pounds) for _ in range(2))
    log = shop_log(5, 200)
    plain.pipe(log)
    quoted = [(b'"' + key, value.replace(b'"user_id":"', b'"user_id":"\\"'), time)
              for key, value, time in raw(log)]  # fmt: skip
    odd.pipe_raw(quoted)
    assert len(odd.predictions()) == len(plain.predictions()) > 100
    for ours, theirs in zip(odd.predictions(), plain.predictions(), strict=True):
        assert ours.user_id == f'"{theirs.user_id}'
        assert (ours.targets, ours.survival) == (theirs.targets, theirs.survival)
        assert ours.expected_wait_ms == theirs.expected_wait_ms
        assert ours.expected_spend == theirs.expected_spend > 0
        assert ours.currency == theirs.currency == "GBP"


def test_before_any_model_the_purchase_process_tells_the_wait_and_alerts_stay_the_same() -> None:
    raising = settings(churn={"raise_untrained": True})
    without = PipelineDriver(Scorer.rhythm(TARGETS), raising)
    waiting = PipelineDriver(Scorer.rhythm(SPENDING), raising)
    pairs = list(zip(told(without), told(waiting), strict=True))
    for plain, prediction in pairs:
        assert prediction.targets == plain.targets
        assert prediction.expected_spend is None  # The process knows no amounts.
        left = {point.horizon_ms: point.probability for point in prediction.survival}
        # The process is in closed form: its bins say the same as its horizons.
        purchase = prediction.targets["purchase"]
        assert left[purchase.horizon_ms] == pytest.approx(1 - purchase.probability, abs=1e-5)
    assert without.alerts() == waiting.alerts()
    assert len(without.alerts()) > 0
