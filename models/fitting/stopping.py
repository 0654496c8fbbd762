"""When a fit ends, and the weights that it ends with: those of its best epoch."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from models.data.dataset import F32
from models.errors import TrainingError
from models.evaluate import F64, log_loss
from models.fitting.calibrate import fit_platt
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
        at.best_loss, at.best_epoch = current, at.epoch
    if current < at.gained_from - config.min_gain:
        at.gained_from, at.since = current, 0
    at.ended = at.since >= config.patience or at.epoch >= config.epochs
    return best


def calibrated_losses(logits_QK: F32, labels_QK: F32) -> F64:
    """Log-loss of each target [K], after calibration on the same points.

    Rates drift between the slices of time, and calibration follows them later: early stopping must
    ignore a shift that Platt scaling corrects.
    """
    found = np.zeros(labels_QK.shape[1])
    for column in range(len(found)):
        known = ~np.isnan(labels_QK[:, column])
        logits, labels = logits_QK[known, column], labels_QK[known, column]
        found[column] = log_loss(labels, fit_platt(logits, labels).probabilities(logits))
    return found


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
