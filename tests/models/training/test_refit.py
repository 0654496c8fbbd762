"""What is served is fitted again on all labels, and nothing that is judged knows of that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.dataset import DatasetConfig
from models.data.split import CALIBRATION, GAP, TRAIN, VALIDATION
from models.errors import ArtifactError
from models.fitting.fit import FitConfig, Progress
from models.inputs.features import FEATURE_VERSION
from models.log.eventlog import EventLog
from models.networks.logistic import Logistic
from models.serving.artifact import GATED_FILE, Artifact, open_script, read_artifact, read_gated
from models.serving.registry import Registry
from models.serving.scorer import Scorer, network_spec
from models.targets import shop_targets
from models.training.candidates import Course, calibrate, fit_candidates
from models.training.choosing import probabilities_of
from models.training.gate import losses
from models.training.gather import Gathered, gather
from models.training.refit import HELD_OUT, scaled_penalties, served_examples
from models.training.train import TrainConfig, Trained, train
from tests.models.shop import DAY, PURCHASE, START, shop_log

TARGETS = shop_targets(PURCHASE, 3 * DAY, 10 * DAY)
NOW = START + 90 * DAY
CONFIG = TrainConfig(
    dataset=DatasetConfig(history_length=16, min_points=50),
    fit=FitConfig(epochs=3, patience=2, windows=64, learning_rate=3e-3),
    hidden_size=16,
    candidates=("logistic",),
)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return shop_log(users=350, days=80)


@pytest.fixture(scope="module")
def gathered(log: EventLog) -> Gathered:
    return gather(log, TARGETS, CONFIG.dataset, drop_late=True, now=NOW)


@pytest.fixture(scope="module")
def trained(log: EventLog) -> Trained:
    return train(log, TARGETS, CONFIG, created_at=NOW, device="cpu")


def published(folder: Path, trained: Trained) -> Artifact:
    """The artifact as it lies in a registry in that folder."""
    registry = Registry(folder)
    manifest = registry.publish(
        trained.manifest, trained.script, trained.golden, documents=trained.documents()
    )
    return read_artifact(registry.path(manifest.version), feature_version=FEATURE_VERSION)


def weights(script: bytes) -> dict[str, np.ndarray]:
    state = open_script(script, torch.device("cpu")).state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


def test_labels_inside_a_slice_are_those_of_the_end(gathered: Gathered) -> None:
    examples = gathered.examples
    known = ~np.isnan(examples.labels)
    assert np.array_equal(examples.labels[known], examples.settled[known])
    gaps = examples.slice == GAP
    assert gaps.any()
    assert not known[gaps].any()
    assert (~np.isnan(examples.settled[gaps])).any(axis=1).all()
    assert (examples.weight[gaps] == 0).all()
    end = examples.now[:, None] + [target.horizon_ms for target in TARGETS]
    assert (end + gathered.split.grace_ms)[~np.isnan(examples.settled)].max() <= (
        gathered.split.edges[3]
    )


def test_the_refit_learns_from_all_labels_but_those_that_calibrate(gathered: Gathered) -> None:
    examples, split = gathered.examples, gathered.split
    whole = served_examples(examples, TARGETS, split)
    train, calibration = whole.of_slice(TRAIN), whole.of_slice(CALIBRATION)
    assert len(train) > 1.3 * len(examples.of_slice(TRAIN))
    assert set(examples.slice[calibration]) == {VALIDATION}
    assert {TRAIN, GAP, VALIDATION} <= set(examples.slice[train])
    held = np.unique(whole.user[calibration])
    share = len(held) / len(np.unique(examples.user[examples.slice == VALIDATION]))
    assert share == pytest.approx(HELD_OUT, abs=0.08)
    # No label of a held-out user that is learnt from reaches into the time that calibrates.
    theirs = train[np.isin(whole.user[train], held)]
    assert len(theirs)
    for column, target in enumerate(TARGETS):
        known = theirs[~np.isnan(whole.labels[theirs, column])]
        assert (whole.now[known] + target.horizon_ms + split.grace_ms <= split.edges[2]).all()
    assert not np.isnan(whole.labels[train]).all(axis=1).any()
    assert (whole.weight[train] > 0).all()


def test_penalty_shrinks_as_labels_grow(gathered: Gathered) -> None:
    examples = gathered.examples
    whole = served_examples(examples, TARGETS, gathered.split)
    course = Course("cpu")
    fit = replace(CONFIG.fit, logistic_penalty=0.01)
    gated = fit_candidates(examples, TARGETS, ("logistic",), fit, 16, course)[0]
    found = scaled_penalties(gated, examples, whole)
    assert all(0.2 * 0.01 < penalty < 0.8 * 0.01 for penalty in found)
    # The same prior: the weight of the penalty in the summed loss stays what it was.
    for column, penalty in enumerate(found):
        before, after = (
            int((~np.isnan(of.labels[of.of_slice(TRAIN), column])).sum())
            for of in (examples, whole)
        )
        assert penalty * after == pytest.approx(0.01 * before)
    assert scaled_penalties(gated, whole, examples) == (0.01, 0.01)


def test_one_busy_user_does_not_set_the_level(gathered: Gathered) -> None:
    """Of 120 points, 90 are of one user who always buys; 30 are of users who never do."""
    examples = gathered.examples
    points = examples.of_slice(CALIBRATION)[:120]
    user, labels = examples.user.copy(), np.full_like(examples.labels, np.nan)
    user[points[:90]], user[points[90:]] = 1, np.arange(2, 32)
    labels[points[:90]], labels[points[90:]] = 1, 0
    shop = replace(examples, user=user, labels=labels)
    calibrations = calibrate(Logistic(network_spec(TARGETS)), shop, TARGETS)
    # Each user counts once: the busy user is one of 31, as if each had one point.
    first = np.append(points[0], points[90:])
    alone = np.full_like(labels, np.nan)
    alone[first] = labels[first]
    once = calibrate(Logistic(network_spec(TARGETS)), replace(shop, labels=alone), TARGETS)
    for target in TARGETS:
        assert calibrations[target.name]["shift"] < -1.2
        for name, value in once[target.name].items():
            assert calibrations[target.name][name] == pytest.approx(value, abs=1e-4)


@pytest.mark.slow
def test_figures_are_of_the_gated_fit_and_the_card_says_so(log: EventLog, trained: Trained) -> None:
    alone = train(log, TARGETS, replace(CONFIG, refit=False), created_at=NOW, device="cpu")
    manifest = trained.manifest
    assert manifest.metrics == alone.manifest.metrics
    assert manifest.penalties == alone.manifest.penalties
    assert manifest.gated == alone.manifest.gated
    assert alone.manifest.served is None
    assert alone.gated is None
    assert trained.gated is not None
    judged, published = weights(trained.gated), weights(trained.script)
    for name, values in weights(alone.script).items():
        assert np.array_equal(values, judged[name]), name
    assert not np.array_equal(judged["linear.weight"], published["linear.weight"])
    served = manifest.served
    assert served is not None
    assert served.last > manifest.gated.last
    assert served.points > manifest.gated.points
    text = trained.card.markdown()
    assert f"gated fit, to {manifest.gated.points:,} examples" in text
    assert f"{served.points:,} examples from" in text
    assert "That fit is served" in alone.card.markdown()


@pytest.mark.slow
def test_the_champion_is_compared_by_its_gated_fit(
    tmp_path: Path, trained: Trained, gathered: Gathered
) -> None:
    artifact = published(tmp_path, trained)
    assert artifact.script == trained.script
    assert read_gated(artifact).script == trained.gated
    points = gathered.examples.of_slice(VALIDATION)
    labels = gathered.examples.labels[points]
    found = {}
    for name, one in (("served", artifact), ("gated", read_gated(artifact))):
        said = probabilities_of(Scorer.of_artifact(one, "cpu"), gathered.examples, points)
        found[name] = np.nanmean(losses(labels, said), axis=0)
    # The trap: the served fit has seen these very labels.
    assert (found["served"] < found["gated"]).all()
    metrics = [artifact.manifest.metrics[f"{target.name}.log_loss"] for target in TARGETS]
    assert found["gated"] == pytest.approx(metrics, abs=1e-5)


@pytest.mark.slow
def test_an_altered_gated_fit_is_refused(tmp_path: Path, trained: Trained) -> None:
    artifact = published(tmp_path, trained)
    (artifact.folder / GATED_FILE).write_bytes(b"else")
    with pytest.raises(ArtifactError, match=r"gated\.pt: SHA-256"):
        read_gated(artifact)


@pytest.mark.slow
def test_a_network_is_fitted_again_for_as_many_epochs(log: EventLog) -> None:
    news: list[Progress] = []
    config = replace(CONFIG, candidates=("gru",))
    found = train(log, TARGETS, config, created_at=NOW, device="cpu", report=news.append)
    begun = [place for place, one in enumerate(news) if one.epoch == 1]
    gated = news[: begun[1]] if len(begun) > 1 else news
    best = int(np.argmin([one.stopping_loss for one in gated])) + 1
    refits = news[len(gated) :]
    assert len(refits) in (0, best)
    assert found.manifest.served is not None
