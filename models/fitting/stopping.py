"""When a fit ends, and the weights that it ends with: those of its best epoch."""

from __future__ import annotations

import math

from torch import Tensor, nn

from models.errors import TrainingError
from models.fitting.checkpoint import Counters
from models.fitting.config import FitConfig


def judge(at: Counters, current: float, config: FitConfig, name: str) -> bool:
    """Count an epoch, and say whether it is the best so far.

    Args:
        at: changed in place; `ended` says whether another epoch is to come.
        current: loss on what says when to stop.
        config: how long to wait for which gain.
        name: for errors.

    Raises:
        TrainingError: this loss, or that of training, is not finite.
    """
    at.epoch += 1
    if not math.isfinite(at.total + current):
        raise TrainingError(
            f"{name}: the loss is not finite in epoch {at.epoch}; lower "
            f"train.learning_rate (now {config.learning_rate})"
        )
    at.since += 1
    best = current < at.best_loss
    if best:
        at.best_loss = current
    if current < at.gained_from - config.min_gain:
        at.gained_from, at.since = current, 0
    at.ended = at.since >= config.patience or at.epoch >= config.epochs
    return best


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
