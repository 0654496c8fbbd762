"""Expected spend: its labels, its figures, and that the share of a bound tells the mean."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from models.data.dataset import DatasetConfig, Examples, build_examples
from models.data.spend import figures_of, shares, spend_figures, spend_target
from models.data.split import TRAIN, VALIDATION, TimeSplit
from models.errors import ModelError
from models.fitting.calibrate import fit_platt
from models.fitting.fit import FitConfig
from models.fitting.sampling import sample_negatives
from models.history import AMOUNT_UNIT, Events
from models.log.eventlog import EventLog, in_order
from models.serving.scorer import Scorer
from models.targets import judged, of_purchases, questions, shop_targets
from models.training.gate import GateRules
from models.training.gather import gather
from models.training.train import TrainConfig, Trained, train
from tests.models.shop import DAY, PURCHASE, START, shop_log

HORIZON = 3 * DAY
MOST = 400.0
TARGETS = (*shop_targets(PURCHASE, HORIZON, 10 * DAY), spend_target(PURCHASE, HORIZON, MOST))
NOW = START + 90 * DAY
CONFIG = TrainConfig(
    dataset=DatasetConfig(history_length=16, min_points=50),
    fit=FitConfig(epochs=4, patience=2, windows=64, learning_rate=3e-3),
    candidates=("logistic",),
)


@pytest.fixture(scope="module")
def log() -> EventLog:
    """Some users buy what costs ten times as much as what others buy."""
    plain = shop_log(users=350, days=80)
    dear = np.where(plain.users % np.uint64(3) == 0, 10, 1)
    events = plain.events
    amount = np.where(events.type == PURCHASE, events.amount // 5 * dear, events.amount)
    columns = (events.time, events.id, events.type, events.item, events.category)
    return EventLog(plain.users, Events(*columns, amount, events.order, events.quantity))


@pytest.fixture(scope="module")
def examples(log: EventLog) -> Examples:
    times = log.events.time
    split = TimeSplit.of(int(times.min()), int(times.max()), 10 * DAY, 0, 0.2, 0.2)
    return build_examples(in_order(log, None), TARGETS, split, CONFIG.dataset)


@pytest.fixture(scope="module")
def trained(log: EventLog) -> Trained:
    return train(log, TARGETS, CONFIG, created_at=NOW, device="cpu")


def spent(log: EventLog, examples: Examples, points: np.ndarray) -> np.ndarray:
    """What the log says, point by point, in currency units."""
    found = []
    for point in points.tolist():
        after = log.events.time - examples.now[point]
        mine = (log.users == examples.user[point]) & (log.events.type == PURCHASE)
        mine &= (after > 0) & (after <= HORIZON)
        found.append(log.events.amount[mine].sum() / AMOUNT_UNIT)
    return np.array(found)


def test_labels_are_what_the_log_says_up_to_the_bound(log: EventLog, examples: Examples) -> None:
    points = np.arange(1, len(examples), 9)
    points = points[~np.isnan(examples.labels[points, 2])]
    found = examples.labels[points, 2]
    assert found == pytest.approx(np.minimum(spent(log, examples, points) / MOST, 1), abs=1e-6)
    assert len(points) > 300
    assert (found == 1).any()
    # Known where the purchase is, and above nothing where there is one.
    assert np.array_equal(found > 0, examples.labels[points, 0] == 1)


def test_a_bound_is_above_zero() -> None:
    assert shares(np.array([0, 15_000, 10**9]), 3).tolist() == [0, 0.5, 1]
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ModelError, match="bound of a spend"):
            spend_target(PURCHASE, DAY, wrong)


def test_it_is_a_question_of_its_own_and_no_label_of_a_prediction() -> None:
    assert questions(TARGETS) == ("purchase", "churn", "spend")
    assert judged(TARGETS) == of_purchases(TARGETS) == TARGETS[:2]


def test_the_cross_entropy_of_shares_is_least_at_their_mean() -> None:
    """Whatever the distribution: here most are nothing and the rest is log-normal."""
    rng = np.random.default_rng(0)
    amounts = np.where(rng.random(50_000) < 0.2, rng.lognormal(3, 1.2, 50_000), 0)
    labels = np.minimum(amounts / 200, 1)
    platt = fit_platt(np.zeros(len(labels)), labels)
    assert platt.probabilities(np.zeros(1))[0] == pytest.approx(labels.mean(), rel=0.02)


def test_figures_of_known_amounts() -> None:
    truth = np.array([0.0, 0.0, 10.0, 30.0])
    perfect = spend_figures(truth, truth)
    assert perfect == {
        "mae": 0,
        "bias": 0,
        "spearman": pytest.approx(1),
        "gini": pytest.approx(1),
        "deviance": pytest.approx(0, abs=1e-6),
    }
    flat = spend_figures(truth, np.full(4, 12.0))
    assert flat["mae"] == 11
    assert flat["bias"] == pytest.approx(0.2)
    assert flat["gini"] == pytest.approx(0)
    assert np.isnan(flat["spearman"])
    turned = spend_figures(truth, truth[::-1])
    assert turned["gini"] < 0
    # The deviance is least at the mean, the absolute error at the median.
    rng = np.random.default_rng(1)
    drawn = rng.lognormal(0, 1, 20_000)
    tried = [spend_figures(drawn, np.full(len(drawn), c)) for c in (np.median(drawn), drawn.mean())]
    assert tried[1]["deviance"] < tried[0]["deviance"]
    assert tried[1]["mae"] > tried[0]["mae"]
    assert all(np.isnan(v) for v in spend_figures(np.zeros(3), np.ones(3)).values())


def test_negatives_of_an_amount_are_not_left_out(examples: Examples) -> None:
    points = examples.of_slice(TRAIN)
    sampled, _, shift = sample_negatives(examples, points, 0.2, 3)
    assert shift[2] == 0 < shift[0]
    assert np.array_equal(sampled.labels[:, 2], examples.labels[:, 2], equal_nan=True)


@pytest.mark.slow
def test_a_spend_is_learnt_judged_and_told(log: EventLog, trained: Trained) -> None:
    manifest = trained.manifest
    found, flat = manifest.metrics, manifest.baselines["base_rate"]
    assert abs(found["spend.bias"]) < 0.25
    assert found["spend.gini"] > 0.4
    assert found["spend.deviance"] < 0.8 * flat["spend.deviance"]
    assert "spend.log_loss" not in manifest.baselines["rhythm"]
    assert set(manifest.reference.histograms) >= {"score.purchase", "label.churn"}
    assert "score.spend" not in manifest.reference.histograms
    checks = [(c.name, c.target) for c in trained.card.checks]
    assert ("unbiased", "spend") in checks
    assert ("calibrated", "spend") not in checks
    assert "- spend: what is spent within 72 h, of which 400 counts at most" in (
        trained.card.markdown()
    )
    rates = manifest.window.positives["validation"]
    assert rates["spend"] == pytest.approx(rates["purchase"], abs=0.01)

    examples = gather(log, TARGETS, CONFIG.dataset, drop_late=True, now=NOW).examples
    points = examples.of_slice(VALIDATION)
    points = points[~np.isnan(examples.labels[points, 2])]
    scorer = Scorer.of_script(trained.gated or trained.script, manifest)
    said = scorer.probabilities(np.empty((len(points), 0), np.float32), examples.profile[points])
    again = figures_of(TARGETS[2], examples.labels[points, 2], said[:, 2])
    assert again["mae"] == pytest.approx(found["spend.mae"], rel=1e-3)
    dear = examples.user[points] % np.uint64(3) == 0
    assert said[dear, 2].mean() > 2 * said[~dear, 2].mean()


@pytest.mark.slow
def test_a_biased_spend_is_left_out_with_its_figures(
    log: EventLog, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expected amounts that are surely half as much again are not published, the rest is."""
    assert "spend" not in trained.manifest.left_out, "the truth passes"
    monkeypatch.setattr("models.training.candidates.fit_platt", doubled)
    config = replace(CONFIG, gate=GateRules(max_ece=0.2))
    found = train(log, TARGETS, config, created_at=NOW, device="cpu").manifest
    assert [target.name for target in found.targets] == ["purchase", "churn"]
    assert set(found.left_out) == {"spend"}
    assert re.search(
        r"did not pass the gate: unbiased \(spend, all\): 0\.[3-9]\d+ against 0\.2000",
        found.left_out["spend"],
    )


def doubled(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, slope_points: float):
    """A calibration that says more of amounts than they are, and the truth of all else."""
    fractional = ((labels > 0) & (labels < 1)).any()
    platt = fit_platt(logits, labels, weights, slope_points)
    return replace(platt, shift=platt.shift + 0.6) if fractional else platt
