"""How networks are fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["auto", "float32", "bfloat16"]
PretrainTask = Literal["next_event", "masked_event"]

IN_SESSION_PASSES: Final = 4
"""Passes of pre-training where targets of a session are learnt."""
IN_SESSION_WEIGHT: Final = 0.1
"""Of the auxiliary next-action loss there; docs/networks.md has the figures of both."""


@dataclass(frozen=True)
class FitConfig:
    """How a network is fitted."""

    epochs: int = 20
    """Passes over the training points, at most."""
    patience: int = 6
    """Epochs without a gain on the stopping slice before training stops: what the order of events
    tells is found after some epochs without any gain."""
    min_gain: float = 1e-4
    """Loss that those epochs must gain together; less is not worth their time."""
    pretrain_epochs: int = 0
    """Passes over the training windows in which a network over sequences learns `pretrain_task`,
    before it sees a label; see `models.fitting.pretraining`."""
    pretrain_task: PretrainTask = "masked_event"
    """What it learns there: to predict each next event, or to recover masked ones."""
    pretrain_mask: float = 0.15
    """Share of the events that "masked_event" masks."""
    next_action_weight: float = 0.0
    """Weight of the auxiliary next-action loss while a network over sequences is fitted; 1: that of
    all targets together; 0: none. See `models.fitting.next_action`."""
    oldest_weight: float = 0.25
    """Weight of the oldest example of a fit, where the newest has 1; between them it falls
    exponentially. 1: age does not matter."""
    windows: int = 32
    """Windows per step; all points that look through them are in the step."""
    learning_rate: float = 3e-3
    """Peak of the schedule."""
    schedule: Schedule = "cosine"
    """How the rate falls from its peak to zero, or "constant"."""
    warm_up: float = 0.05
    """Share of all steps in which the rate rises from zero to its peak."""
    weight_decay: float = 0.05
    """Of AdamW."""
    clip_norm: float = 1.0
    """Largest norm of a step's gradient."""
    precision: Precision = "auto"
    """"bfloat16": matrix products of the training steps in half precision, weights in single;
    "auto" does so on a GPU that has it. Judging is always in single precision."""
    task_weights: tuple[float, ...] = ()
    """Weight of each target in the loss of a network over sequences; empty: by uncertainty, see
    `models.fitting.weighting`."""
    questions: tuple[str, ...] = ()
    """What each target answers (`models.targets.questions`); those of one question are weighed as
    one. Empty: each is its own."""
    negatives: float = 0.0
    """Negative labels per positive one that are learnt from, at most, per target; 0: all. What the
    sampling does to the odds is taken back, so probabilities stay those of the shop."""
    logistic_penalty: float | None = None
    """L2 penalty of the weights of the logistic regression and of the blend. None: each target's is
    chosen, by its loss on later points of users who are not learnt from."""
    logistic_steps: int = 60
    """L-BFGS steps of the logistic regression, at most."""
    seed: int = 7
    """Of the initial weights, the order of batches and dropout."""


@dataclass(frozen=True)
class RefreshConfig:
    """How a published model goes on learning from what came since."""

    epochs: int = 1
    """Passes over the new points and those it is reminded of, at most."""
    rate: float = 0.3
    """Peak of the learning rate, as a share of a whole fit's."""
    replay: float = 1.0
    """Old points per new one that are shown again, so that nothing is forgotten."""


@dataclass(frozen=True)
class Choice:
    """What tuning may try for one setting."""

    low: float
    high: float
    log: bool = False
    """Try orders of magnitude alike."""
    whole: bool = False
    """Integers only."""


SEARCH_SPACE: dict[str, Choice] = {
    "learning_rate": Choice(2e-4, 1e-2, log=True),
    "weight_decay": Choice(1e-3, 0.3, log=True),
    "windows": Choice(16, 256, log=True, whole=True),
    "clip_norm": Choice(0.3, 3.0, log=True),
    "warm_up": Choice(0.0, 0.2),
    "next_action_weight": Choice(0.0, 1.0),
    "logistic_penalty": Choice(1e-6, 0.3, log=True),
}
"""Field of `FitConfig` -> what `intentstream tune` tries for it."""
