"""The auxiliary next-action loss: nothing later is its label, and no published network has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models.fitting.fit
from models.data.dataset import Examples
from models.data.split import TRAIN
from models.fitting.checkpoint import Checkpoint, Saved, save
from models.fitting.config import FitConfig
from models.fitting.next_action import NextAction, next_action
from models.networks.gru import Gru
from models.serving.scorer import network_spec
from tests.models.fitting.small import TARGETS, fitted, small_examples, weights

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


class Killed(Exception):
    """In place of a signal."""


def seen(examples: Examples) -> np.ndarray:
    """Which events [N] lie in the window of a training example, and not after it."""
    train = examples.of_slice(TRAIN)
    found = np.zeros(len(examples.ids), np.bool_)
    for start, event in zip(examples.start[train], examples.event[train], strict=True):
        found[start : event + 1] = True
    return found


def steps(examples: Examples) -> list[tuple[float, float]]:
    """Training loss and last gradient of three epochs whose steps the later slices do not move."""
    news = fitted(
        None, examples=examples, next_action_weight=0.5, task_weights=(1.0, 1.0), min_gain=0.0
    )[1]
    assert len(news) == 3
    return [(one.train_loss, one.gradient_norm) for one in news]


def test_an_event_after_the_last_example_changes_nothing() -> None:
    examples = small_examples()
    later = ~seen(examples)
    assert later.sum() > 50
    ids = np.where(later[:, None], 3, examples.ids)
    nums = np.where(later[:, None], np.float32(9), examples.nums)
    assert steps(replace(examples, ids=ids, nums=nums)) == steps(examples)


def test_a_next_event_within_the_window_is_a_label() -> None:
    """Of one window of four events, of which three are seen: two labels, whatever comes fourth."""
    network = Gru(network_spec(TARGETS))
    head = NextAction(network)
    ids = torch.tensor([[[1, 5, 7], [2, 5, 7], [1, 6, 8], [6, 6, 8]]])
    states = torch.linspace(-1, 1, 4 * network.hidden_size).view(1, 4, -1)

    def loss(types: list[int], seen: int = 3) -> float:
        length, changed = torch.tensor([seen]), ids.clone()
        changed[0, :, 0] = torch.tensor(types)
        with torch.inference_mode():
            return float(head(network, states, changed, length))

    assert loss([1, 2, 1, 6]) == loss([4, 2, 1, 3])
    assert loss([1, 2, 1, 6]) != loss([1, 3, 1, 6])
    assert loss([1, 2, 1, 6]) != loss([1, 2, 3, 6])
    assert loss([1, 2, 1, 6], 1) == 0.0


def test_it_moves_the_states_and_is_not_published() -> None:
    plain, _ = fitted(None)
    taught, news = fitted(None, next_action_weight=0.5)
    assert weights(taught).keys() == weights(plain).keys()
    assert weights(taught) != weights(plain)
    assert fitted(None, next_action_weight=0.5)[1] == news


def test_a_killed_fit_goes_on_with_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fit.ckpt"

    def dies(where: Path, saved: Saved) -> None:
        save(where, saved)
        if saved.counters.step >= 11:
            raise Killed

    monkeypatch.setattr(models.fitting.fit, "save", dies)
    with pytest.raises(Killed):
        fitted(Checkpoint(path, steps=3), next_action_weight=0.5)
    monkeypatch.undo()
    network, epochs = fitted(Checkpoint(path, steps=3, resume=True), next_action_weight=0.5)
    whole, all_epochs = fitted(None, next_action_weight=0.5)
    assert weights(network) == weights(whole)
    assert len(all_epochs) > len(epochs) > 0


def test_without_weight_there_is_no_head() -> None:
    assert next_action(Gru(network_spec(TARGETS)), FitConfig(), CPU) is None
