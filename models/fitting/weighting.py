"""How much each target counts in the loss that the targets of a network share.

By uncertainty (Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for
Scene Geometry and Semantics", CVPR 2018): minimised over its noise s, each target's part

    exp(-s) * loss + s / 2

has its least at exp(s) = 2 * loss, so a target weighs 1 / (2 * loss): what is hard to tell counts
less, and a target does not drown another because its loss is larger. That closed form takes the
place of learnt noises; the losses are those that a fit measures after every epoch anyway, on points
it does not learn from. Targets that answer one question together, as the bins of a wait do, are one
task whose loss is the sum of theirs, and have one weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingError

LOSS_FLOOR: Final = 1e-3
"""Losses below it count as if they were it: a target that is all but known must not be all."""


def target_weights(
    losses_K: NDArray[np.float64], chosen: Sequence[float] = (), questions: Sequence[str] = ()
) -> list[float]:
    """Weights of K targets, 1 on average, so that the learning rate means the same.

    Args:
        losses_K: mean log-loss of each target on points that are not learnt from, nats.
        chosen: what someone wants instead, K positive numbers of any size; empty: by uncertainty.
        questions: what each target answers; empty: each its own question.

    Raises:
        TrainingError: `chosen` does not fit the targets.
    """
    if len(chosen) not in (0, len(losses_K)) or any(weight <= 0 for weight in chosen):
        raise TrainingError(
            f"the weights of the targets are {list(chosen)}, but there are {len(losses_K)} targets"
            " and each needs a positive number; correct train.task_weights"
        )
    if len(questions):
        _, question_K = np.unique(questions, return_inverse=True)
        sums: NDArray[np.float64] = np.zeros(len(losses_K))
        np.add.at(sums, question_K, losses_K)
        losses_K = sums[question_K]
    wanted = np.asarray(chosen) if len(chosen) else 0.5 / np.maximum(losses_K, LOSS_FLOOR)
    found: list[float] = (wanted / wanted.mean()).tolist()
    return found
