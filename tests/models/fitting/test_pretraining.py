"""Pre-training on next or masked events: it learns order, reads no label, and repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.dataset import (
    DatasetConfig,
    Examples,
    build_examples,
    draw_points,
    label_points,
)
from models.data.split import TRAIN, TimeSplit
from models.errors import TrainingError
from models.fitting.config import FitConfig
from models.fitting.fit import standardise
from models.fitting.pretraining import pretrain
from models.log.eventlog import in_order
from models.networks import build
from models.networks.sequence import SequenceNetwork
from models.serving.scorer import network_spec
from models.targets import shop_targets
from tests.models.shop import CART, DAY, PURCHASE, SEARCH, START, VIEW, carts_log, log_of

pytestmark = pytest.mark.slow

TARGETS = shop_targets(PURCHASE, 2 * DAY, 8 * DAY)
CONFIG = FitConfig(
    pretrain_epochs=3, pretrain_task="next_event", windows=8, learning_rate=5e-3, seed=3
)
MASKED = replace(CONFIG, pretrain_task="masked_event")
TASKS = pytest.mark.parametrize("config", [CONFIG, MASKED], ids=["next_event", "masked_event"])


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


@TASKS
@pytest.mark.parametrize("architecture", ["gru", "lstm", "lru", "transformer"])
def test_the_loss_of_the_task_falls(
    examples: Examples, architecture: str, config: FitConfig
) -> None:
    _, losses = pretrained(examples, replace(config, pretrain_epochs=6), architecture)
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.3


@TASKS
def test_it_repeats_and_follows_the_seed(examples: Examples, config: FitConfig) -> None:
    (one, losses), (two, again) = pretrained(examples, config), pretrained(examples, config)
    assert losses == again
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert pretrained(examples, replace(config, seed=4))[1] != losses


@TASKS
def test_it_leaves_the_heads_and_reads_no_label(examples: Examples, config: FitConfig) -> None:
    state, losses = pretrained(examples, config)
    unlabelled = replace(examples, labels=np.full_like(examples.labels, np.nan))
    assert pretrained(unlabelled, config)[1] == losses
    assert not state["direct.weight"].any()
    assert not state["head.3.weight"].any()


@TASKS
def test_it_reads_no_event_after_the_training_slice(examples: Examples, config: FitConfig) -> None:
    """Changing every event after the last training example changes nothing."""
    train = examples.of_slice(TRAIN)
    last = examples.now[train].max()
    later = examples.time > last
    assert later.sum() > 100
    ids = examples.ids.copy()
    ids[later] = 3
    changed = replace(examples, ids=ids, nums=np.where(later[:, None], 9, examples.nums))
    assert pretrained(changed, config)[1] == pretrained(examples, config)[1]


def test_masked_events_of_a_pattern_are_recovered() -> None:
    """View, search and cart in turn; item, category and amount are constant. Chance is log 3."""
    turns = [(place, user) for place in range(40) for user in range(64)]
    times = [START + place * DAY + user for place, user in turns]
    who = [user for _, user in turns]
    types = [(VIEW, SEARCH, CART)[(place + user) % 3] for place, user in turns]
    log = log_of(who, times, types)
    log.events.item[:], log.events.category[:], log.events.amount[:] = 7, 7, 0
    ordered = in_order(log, None)
    split = TimeSplit.of(times[0], times[-1], 8 * DAY, 0, 0.2, 0.2)
    points = draw_points(ordered, TARGETS, times[-1], DatasetConfig(history_length=16))
    examples = label_points(points, TARGETS, split)
    many = replace(MASKED, pretrain_epochs=18, windows=2)
    assert pretrained(examples, many)[1][-1] < 0.5 * np.log(3)
    rng = np.random.default_rng(1)
    ids = examples.ids.copy()
    ids[:, 0] = rng.choice([VIEW, SEARCH, CART], len(ids))
    few = replace(many, pretrain_epochs=6)
    assert pretrained(replace(examples, ids=ids), few)[1][-1] > 0.9 * np.log(3)


def test_a_share_of_masked_events_that_cannot_be_is_refused(examples: Examples) -> None:
    with pytest.raises(TrainingError, match=r"masked events is 1\.0; set train\.pretrain_mask"):
        pretrained(examples, replace(MASKED, pretrain_mask=1.0))
