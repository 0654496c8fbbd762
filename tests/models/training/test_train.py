"""The whole run: what is published, why, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models.data.dataset import DatasetConfig, build_examples
from models.data.split import CALIBRATION, TRAIN, VALIDATION, TimeSplit
from models.errors import DatasetError, TrainingError
from models.evaluate import log_loss
from models.fitting.batches import Batches
from models.fitting.fit import FitConfig, Progress, fit_sequences, standardise, stopping_losses
from models.log.eventlog import EventLog, in_order
from models.networks import build
from models.serving.manifest import SelfSupervision
from models.serving.registry import Registry
from models.serving.scorer import Scorer, network_spec
from models.survival import Bins, hazard_targets, survival
from models.targets import shop_targets
from models.training.candidates import Candidate
from models.training.choosing import choose, why
from models.training.gate import GateRules, Slice
from models.training.gather import gather
from models.training.train import TrainConfig, Trained, train
from stream.config.loading import load_settings
from stream.learning.trainer import fit_of
from tests.models.shop import DAY, PURCHASE, START, VIEW, log_of, searched_carts_log, shop_log
from tests.models.training.test_gate import shop

pytestmark = pytest.mark.slow

TARGETS = shop_targets(PURCHASE, 3 * DAY, 10 * DAY)
CONFIG = TrainConfig(
    dataset=DatasetConfig(history_length=16, min_points=50),
    fit=FitConfig(epochs=4, patience=2, windows=64, learning_rate=3e-3),
    hidden_size=16,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads of small operations wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(log: EventLog, config: TrainConfig = CONFIG, **options: object) -> Trained:
    return train(log, TARGETS, config, created_at=1_700_000_000_000, device="cpu", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def log() -> EventLog:
    return shop_log(users=350, days=80)


@pytest.fixture(scope="module")
def trained(log: EventLog) -> Trained:
    return run(log)


@pytest.mark.full
def test_the_model_beats_the_baselines_and_says_what_it_was_fitted_on(
    log: EventLog, trained: Trained
) -> None:
    manifest = trained.manifest
    for target in ("purchase", "churn"):
        for baseline in ("base_rate", "recency"):
            ours = manifest.metrics[f"{target}.log_loss"]
            assert ours < manifest.baselines[baseline][f"{target}.log_loss"]
        assert manifest.metrics[f"{target}.roc_auc"] > 0.65
        assert manifest.metrics[f"{target}.ece"] < 0.1
        assert set(manifest.calibration[target]) == {"slope", "shift"}
    loser = {"gru": "blend", "blend": "gru"}[manifest.architecture]
    assert set(manifest.baselines) == {"base_rate", "recency", "rhythm", loser}
    assert manifest.choice.startswith(f"{manifest.architecture}: ")
    assert manifest.window.events == len(log)
    assert manifest.window.users == len(np.unique(log.users))
    assert manifest.window.last_event == int(log.events.time.max())
    assert set(manifest.window.examples) == {"train", "stopping", "calibration", "validation"}
    assert manifest.version.startswith(f"20231114T221320Z-{manifest.architecture}-")
    assert all(map(math.isfinite, manifest.metrics.values()))


def test_the_card_says_what_the_gate_saw(trained: Trained) -> None:
    card = trained.card
    assert {check.name for check in card.checks if check.passed} >= {
        "calibrated",
        "better than base_rate",
        "better than recency",
    }
    assert all(check.passed for check in card.checks)
    assert card.champion is None
    assert card.segments["purchase"]["orders: 2 to 4"]["log_loss"] > 0
    rates = {name: row["base_rate"] for name, row in card.populations["churn"].items()}
    assert rates["event"] + 0.1 < rates["timer"], "two populations, not one"
    names = trained.manifest.reference.histograms
    assert {"score.purchase", "label.churn", "feature.log_orders"} < set(names)


@pytest.mark.full
def test_a_challenger_worse_than_the_champion_is_refused(log: EventLog, trained: Trained) -> None:
    champion = Scorer.of_script(trained.gated or b"", trained.manifest)
    logistic = replace(CONFIG, candidates=("logistic",))
    again = run(log, champion=champion)
    assert again.card.champion == trained.manifest.version
    compared = [c for c in again.card.checks if c.name == "not worse than the champion"]
    assert compared
    # The same model on the same points: batches of windows on both sides, to the last digit or so.
    assert max(abs(check.ours - check.theirs) for check in compared) < 1e-5
    broken = replace(logistic, fit=replace(logistic.fit, logistic_penalty=3.0))
    with pytest.raises(TrainingError, match=r"not worse than the champion \(purchase, timer\)"):
        run(log, broken, champion=champion)


def examples_of(found: Slice) -> Any:
    """What the choice reads of examples, all of them in the slice that it asks for."""
    everything = np.arange(len(found.users))
    return SimpleNamespace(
        of_slice=lambda _: everything,
        labels=found.labels,
        profile=found.profile,
        user=found.users,
        at_event=found.at_event,
    )


@pytest.mark.parametrize(("blur", "chosen"), [(0.6, "gru"), (0.0, "logistic")])
def test_an_architecture_that_does_not_surely_beat_the_logistic_model_is_not_chosen(
    blur: float, chosen: str
) -> None:
    found, truth = shop()
    flat = truth.mean(axis=0)
    said = {"gru": truth, "logistic": (1 - blur) * truth + blur * flat}
    fitted = [
        # The GRU has the better figures either way; with no blur by luck alone.
        Candidate(name, None, {}, {f"{t.name}.log_loss": loss for t in TARGETS}, said[name])  # type: ignore[arg-type]
        for name, loss in (("logistic", 0.5), ("gru", 0.49))
    ]
    best, _ = choose(fitted, examples_of(found), TARGETS, {}, None, GateRules())
    assert best.architecture == chosen
    assert ("not surely beaten by gru" in why(best, fitted, TARGETS)) == (chosen == "logistic")


@pytest.mark.parametrize(("blend", "chosen"), [(0.0, "blend"), (0.3, "gru"), (0.6, "gru")])
def test_a_network_must_surely_beat_the_blend_too(blend: float, chosen: str) -> None:
    found, truth = shop()
    flat = truth.mean(axis=0)
    blurs = {"gru": 0.0, "blend": blend, "logistic": 0.6}
    fitted = [
        Candidate(
            name,
            None,  # type: ignore[arg-type]  # no network is looked at
            {},
            {f"{target.name}.log_loss": 0.4 + blur for target in TARGETS},
            (1 - blur) * truth + blur * flat,
        )
        for name, blur in blurs.items()
    ]
    best, verdict = choose(fitted, examples_of(found), TARGETS, {}, None, GateRules())
    assert best.architecture == chosen
    names = {check.name for check in verdict.checks}
    assert ("better than blend" in names) == (chosen == "gru")
    assert "better than logistic" in names


def test_what_is_published_can_be_served(tmp_path: Path, trained: Trained) -> None:
    registry = Registry(tmp_path)
    manifest = registry.publish(trained.manifest, trained.script, trained.golden)
    scorer = Scorer.load(registry.resolve(manifest.version), "cpu")
    assert scorer.targets == TARGETS
    assert scorer.reference_profile.shape == (len(manifest.profile_features),)


@pytest.mark.full
def test_the_same_seed_gives_the_same_model(log: EventLog, trained: Trained) -> None:
    state = torch.random.get_rng_state()
    again = run(log)
    assert torch.equal(state, torch.random.get_rng_state())
    assert again.manifest.metrics == trained.manifest.metrics
    for name, array in trained.golden.items():
        assert np.array_equal(array, again.golden[name])


@pytest.mark.parametrize("architecture", ["logistic", "gru"])
def test_each_architecture_can_be_trained_alone(log: EventLog, architecture: str) -> None:
    news: list[Progress] = []
    fit = replace(CONFIG.fit, pretrain_epochs=1, next_action_weight=0.1)
    config = replace(CONFIG, candidates=(architecture,), fit=fit)
    found = run(log, config, report=news.append)
    assert found.manifest.architecture == architecture
    learnt = SelfSupervision("masked_event", 1, 0.15, 0.1)
    told = found.manifest.self_supervision
    assert told == (learnt if architecture == "gru" else SelfSupervision())
    assert found.card.self_supervision == told
    assert found.manifest.hidden_size == (16 if architecture == "gru" else 0)
    assert [n.epoch for n in news][:1] == [1] * bool(news)
    assert bool(news) == (architecture == "gru")


def test_the_network_is_left_at_its_best_epoch(log: EventLog) -> None:
    ordered = in_order(log, None)
    times = ordered.log.events.time
    split = TimeSplit.of(int(times.min()), int(times.max()), 10 * DAY, 0, 0.2, 0.2)
    examples = build_examples(ordered, TARGETS, split, CONFIG.dataset)
    points, stopping = examples.of_slice(TRAIN)[:400], examples.of_slice(CALIBRATION)
    device = torch.device("cpu")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = build("gru", network_spec(TARGETS), 16)
        standardise(network, examples, points)
        held_out = Batches(examples, stopping, 64, device)
        losses = [stopping_losses(network, held_out, examples).sum()]
        config = FitConfig(epochs=30, patience=2, min_gain=0, windows=32, learning_rate=8e-3)

        def report(news: Progress) -> None:
            losses.append(news.stopping_loss)

        fit_sequences(network, examples, points, stopping, config, device, "gru", report)
    best = losses.index(min(losses))
    assert len(losses) - 1 == best + config.patience < 30
    left_at = stopping_losses(network, held_out, examples).sum()
    assert left_at == pytest.approx(losses[best], rel=1e-6)


@pytest.mark.full
def test_the_gru_learns_what_only_the_order_of_events_tells() -> None:
    targets = shop_targets(PURCHASE, DAY // 2, 4 * DAY)
    # As the settings have it: the gain comes only after some epochs without any.
    fit = fit_of(load_settings())
    dataset = replace(CONFIG.dataset, event_points=20, silence_points=0)
    candidates = ("logistic", "blend", "gru")
    config = replace(CONFIG, fit=fit, dataset=dataset, candidates=candidates)
    found = train(
        searched_carts_log(), targets, config, created_at=START + 90 * DAY, device="cpu"
    ).manifest
    assert found.architecture == "gru"
    assert found.metrics["purchase.roc_auc"] > 0.8
    assert found.metrics["purchase.roc_auc"] > (
        found.baselines["logistic"]["purchase.roc_auc"] + 0.1
    )


def test_a_wait_is_learnt_with_the_targets_and_tells_a_horizon_as_well_as_its_own_head(
    log: EventLog,
) -> None:
    edges = (DAY, 3 * DAY, 6 * DAY, 10 * DAY)
    targets = (*TARGETS, *hazard_targets(PURCHASE, edges))
    config = replace(CONFIG, candidates=("logistic",))
    trained = train(log, targets, config, created_at=START + 90 * DAY, device="cpu")
    questions = {check.target for check in trained.card.checks if check.name.startswith("better")}
    assert questions == {"purchase", "churn", "wait"}
    assert "- hazard_1: one within 72 h, if none has come in 24 h" in trained.card.markdown()

    dataset = config.dataset
    examples = gather(log, targets, dataset, drop_late=True, now=START + 90 * DAY).examples
    points = examples.of_slice(VALIDATION)
    points = points[~np.isnan(examples.labels[points, 0])]
    scorer = Scorer.of_script(trained.script, trained.manifest)
    said = scorer.probabilities(np.empty((len(points), 0), np.float32), examples.profile[points])
    bins = Bins.of(scorer.targets)
    within = 1 - survival(bins.hazards(said), bins.edges_ms, TARGETS[0].horizon_ms)
    labels = examples.labels[points, 0]
    assert log_loss(labels, within) < log_loss(labels, said[:, 0]) + 0.01
    assert log_loss(labels, within) < log_loss(labels, np.full(len(labels), labels.mean())) - 0.02
    assert within.mean() == pytest.approx(labels.mean(), abs=0.05)


def test_late_events_are_left_out_as_in_serving(log: EventLog) -> None:
    late = log_of([1] * 5, [int(log.events.time.min()) + 1] * 5, [VIEW] * 5)
    late.events.id[:] += np.uint64(10**6)
    both = EventLog.join([log, late])
    config = replace(CONFIG, candidates=("logistic",))
    assert run(both, config).manifest.window.events == len(log)
    config = replace(config, drop_late=False)
    assert run(both, config).manifest.window.events == len(log) + 5


class TestNothingIsPublished:
    def test_of_an_empty_log(self, log: EventLog) -> None:
        with pytest.raises(DatasetError, match="event log is empty"):
            run(log.until(0))

    def test_of_a_log_shorter_than_the_horizons(self, log: EventLog) -> None:
        with pytest.raises(DatasetError, match="too little for a horizon"):
            run(log.until(int(log.events.time.min()) + 12 * DAY))

    def test_of_one_class(self, log: EventLog) -> None:
        views = log.where(log.events.type == VIEW)
        with pytest.raises(DatasetError, match="one class only"):
            run(views)

    def test_where_there_is_nothing_to_learn(self) -> None:
        rng = np.random.default_rng(9)
        users = np.arange(60).repeat(20)
        times = 1_600_000_000_000 + (rng.random(1200) * 80 * DAY).astype(np.int64)
        noise = log_of(users.tolist(), times.tolist(), [PURCHASE] * 1200)
        with pytest.raises(
            TrainingError,
            match=r"nothing published: .* failed: better than base_rate \(churn, all\)",
        ):
            run(noise, replace(CONFIG, dataset=replace(CONFIG.dataset, min_points=10)))

    def test_when_the_fit_diverges(self, log: EventLog) -> None:
        fit = replace(CONFIG.fit, learning_rate=1e30, clip_norm=1e30)
        with pytest.raises(TrainingError, match=r"loss is not finite.*learning_rate"):
            run(log, replace(CONFIG, fit=fit))
