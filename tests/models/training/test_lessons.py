"""A published model that goes on learning: what of its first fit holds for the later ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.dataset import DatasetConfig, Examples
from models.data.split import TRAIN
from models.fitting.config import RefreshConfig
from models.fitting.fit import FitConfig
from models.networks.base import Network
from models.networks.logistic import Logistic
from models.serving.artifact import script_bytes
from models.serving.manifest import SelfSupervision
from models.targets import shop_targets
from models.training.candidates import Course, Lesson, fit_candidates, refreshed
from models.training.gather import Gathered, gather
from models.training.train import TrainConfig, train_on
from tests.models.shop import DAY, PURCHASE, START, shop_log

pytestmark = pytest.mark.slow

TARGETS = shop_targets(PURCHASE, 3 * DAY, 10 * DAY)
NOW = START + 90 * DAY
CONFIG = TrainConfig(
    dataset=DatasetConfig(history_length=16, min_points=50),
    fit=FitConfig(logistic_penalty=0.01),
    candidates=("logistic",),
    refit=False,
)
COURSE = Course(device="cpu")


@pytest.fixture(scope="module")
def gathered() -> Gathered:
    return gather(shop_log(users=350, days=80), TARGETS, CONFIG.dataset, drop_late=True, now=NOW)


def rate(network: Network, examples: Examples) -> float:
    """Mean probability of a purchase over the training slice, without calibration."""
    profile = torch.from_numpy(examples.profile[examples.of_slice(TRAIN)])
    one = torch.ones(network.targets)
    network.set_calibration(one, torch.zeros_like(one))
    with torch.inference_mode():
        logits = network.heads(network.initial(len(profile)), profile)
    return float(torch.sigmoid(logits[:, 0]).mean())


def test_a_refreshed_regression_ages_its_examples(gathered: Gathered) -> None:
    """In the earlier half of the time 1 in 10 buys, in the later half 6 in 10."""
    examples = gathered.examples
    train = examples.of_slice(TRAIN)
    late = examples.now[train] > np.median(examples.now[train])
    rng = np.random.default_rng(1)
    labels = examples.labels.copy()
    labels[train] = (rng.random(len(train)) < np.where(late, 0.6, 0.1))[:, None]
    profile = rng.normal(size=examples.profile.shape).astype(np.float32)
    shop = replace(examples, labels=labels, profile=profile)
    (first,) = fit_candidates(shop, TARGETS, ("logistic",), CONFIG.fit, 16, COURSE)
    fitted = rate(first.network, shop)
    lesson = Lesson("logistic", first.network, b"", train, train[:0])
    again = refreshed(shop, TARGETS, CONFIG.fit, RefreshConfig(), COURSE, lesson)
    assert rate(again.network, shop) == pytest.approx(fitted, abs=0.01)
    even = replace(CONFIG.fit, oldest_weight=1.0)
    unaged = refreshed(shop, TARGETS, even, RefreshConfig(), COURSE, lesson)
    assert rate(unaged.network, shop) < fitted - 0.05


def test_a_refresh_tells_what_its_model_had_learnt(gathered: Gathered) -> None:
    """Settings that came after the first fit say nothing of a model that only goes on learning."""
    torch.manual_seed(0)
    (first,) = fit_candidates(gathered.examples, TARGETS, ("logistic",), CONFIG.fit, 16, COURSE)
    network = first.network
    assert isinstance(network, Logistic)
    learnt = SelfSupervision("masked_event", 4, 0.15, 0.1)
    train = gathered.examples.of_slice(TRAIN)
    lesson = Lesson("logistic", network, script_bytes(network), train, train[:0], {}, learnt)
    found = train_on(gathered, CONFIG, created_at=NOW, course=COURSE, lesson=lesson)
    assert found.manifest.self_supervision == learnt
    assert found.card.self_supervision == learnt
