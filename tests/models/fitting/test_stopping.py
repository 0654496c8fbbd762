"""When a fit ends, and which epoch it ends with."""

from __future__ import annotations

import math

import pytest
from torch import nn

from models.errors import TrainingError
from models.fitting.checkpoint import Counters
from models.fitting.config import FitConfig
from models.fitting.stopping import judge, weights_of

CONFIG = FitConfig(epochs=9, patience=2, min_gain=0.1)


def judged(*losses: float) -> tuple[list[bool], Counters]:
    at, best = Counters("fit"), []
    for loss in losses:
        assert not at.ended
        best.append(judge(at, loss, CONFIG, "gru"))
    return best, at


def test_small_gains_are_kept_but_not_waited_for() -> None:
    best, at = judged(1.0, 0.95, 0.92)
    assert best == [True, True, True]
    assert (at.ended, at.best_loss, at.gained_from) == (True, 0.92, 1.0)


def test_a_gain_worth_its_time_buys_more() -> None:
    best, at = judged(1.0, 1.1, 0.5, 0.6)
    assert best == [True, False, True, False]
    assert not at.ended
    assert judge(at, 0.7, CONFIG, "gru") is False
    assert at.ended


def test_epochs_come_to_an_end() -> None:
    assert judged(*(9.0 - n for n in range(9)))[1].ended


@pytest.mark.parametrize(("total", "current"), [(math.nan, 1.0), (1.0, math.inf)])
def test_a_loss_that_is_not_finite_names_the_fit_and_the_epoch(
    total: float, current: float
) -> None:
    at = Counters("fit", epoch=3, total=total)
    with pytest.raises(TrainingError, match=r"gru: the loss is not finite in epoch 4; lower train"):
        judge(at, current, CONFIG, "gru")


def test_kept_weights_do_not_change_with_the_module() -> None:
    layer = nn.Linear(2, 1)
    kept = weights_of(layer)
    before = kept["weight"].clone()
    nn.init.zeros_(layer.weight)
    assert (kept["weight"] == before).all()
    assert set(kept) == {"weight", "bias"}
