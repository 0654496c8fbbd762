"""Pre-training on the next event: it learns order, reads no label, and repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.dataset import DatasetConfig, Examples, build_examples
from models.data.split import TRAIN, TimeSplit
from models.fitting.config import FitConfig
from models.fitting.fit import standardise
from models.fitting.pretraining import pretrain
from models.log.eventlog import in_order
from models.networks import build
from models.networks.sequence import SequenceNetwork
from models.serving.scorer import network_spec
from models.targets import shop_targets
from tests.models.shop import DAY, PURCHASE, carts_log

TARGETS = shop_targets(PURCHASE, 2 * DAY, 8 * DAY)
CONFIG = FitConfig(pretrain_epochs=3, windows=8, learning_rate=5e-3, seed=3)


@pytest.fixture(scope="module")
def examples() -> Examples:
    log = carts_log(users=60)
    times = log.events.time
    split = TimeSplit.of(int(times.min()), int(times.max()), 8 * DAY, 0, 0.2, 0.2)
    config = DatasetConfig(history_length=16, min_points=10)
    return build_examples(in_order(log, None), TARGETS, split, config)


def pretrained(
    examples: Examples, config: FitConfig = CONFIG, architecture: str = "gru"
) -> tuple[dict[str, torch.Tensor], list[float]]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build(architecture, network_spec(TARGETS), 16)
    assert isinstance(network, SequenceNetwork)
    train = examples.of_slice(TRAIN)
    standardise(network, examples, train)
    losses = pretrain(network, examples, train, config, torch.device("cpu"))
    return network.state_dict(), losses


@pytest.mark.parametrize("architecture", ["gru", "lstm", "lru", "transformer"])
def test_the_loss_of_the_next_event_falls(examples: Examples, architecture: str) -> None:
    _, losses = pretrained(examples, replace(CONFIG, pretrain_epochs=6), architecture)
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.3


def test_it_repeats_and_follows_the_seed(examples: Examples) -> None:
    (one, losses), (two, again) = pretrained(examples), pretrained(examples)
    assert losses == again
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert pretrained(examples, replace(CONFIG, seed=4))[1] != losses


def test_it_leaves_the_heads_and_reads_no_label(examples: Examples) -> None:
    state, losses = pretrained(examples)
    unlabelled = replace(examples, labels=np.full_like(examples.labels, np.nan))
    assert pretrained(unlabelled)[1] == losses
    assert not state["direct.weight"].any()
    assert not state["head.3.weight"].any()


def test_it_reads_no_event_after_the_training_slice(examples: Examples) -> None:
    """Changing every event after the last training example changes nothing."""
    train = examples.of_slice(TRAIN)
    last = examples.now[train].max()
    later = examples.time > last
    assert later.sum() > 100
    ids = examples.ids.copy()
    ids[later] = 3
    changed = replace(examples, ids=ids, nums=np.where(later[:, None], 9, examples.nums))
    assert pretrained(changed)[1] == pretrained(examples)[1]
