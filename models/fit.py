"""Fitting a network to examples: standardisation, the loss, early stopping."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.baselines.bgnbd import fit_process
from models.batches import Batch, Batches
from models.calibrate import fit_platt
from models.dataset import F32, Examples, Index
from models.errors import TrainingError
from models.evaluate import log_loss
from models.networks.base import Network, NetworkSpec
from models.networks.blend import Blend


@dataclass(frozen=True)
class FitConfig:
    """How a network is fitted."""

    epochs: int = 12
    """Passes over the training points, at most."""
    patience: int = 3
    """Epochs without a gain on the stopping slice before training stops."""
    min_gain: float = 1e-3
    """Loss that those epochs must gain together; less is not worth their time."""
    windows: int = 64
    """Windows per step; all points that look through them are in the step."""
    learning_rate: float = 1e-3
    """Peak of the schedule, which warms up in the first twentieth and ends at zero."""
    weight_decay: float = 0.05
    """Of AdamW."""
    clip_norm: float = 1.0
    """Largest norm of a step's gradient."""
    logistic_penalty: float = 0.03
    """L2 penalty of the logistic regression's weights. Strong, because counts and tenure grow with
    the calendar: what they meant in the past must not be extrapolated."""
    logistic_steps: int = 60
    """L-BFGS steps of the logistic regression, at most."""
    seed: int = 7
    """Of the initial weights, the order of batches and dropout."""


@dataclass(frozen=True)
class Progress:
    """One line of news from a fit."""

    architecture: str
    epoch: int
    """Epochs done."""
    epochs: int
    train_loss: float
    stopping_loss: float


Report = Callable[[Progress], None]


def standardise(network: Network, examples: Examples, points: Index) -> None:
    """Measure the inputs of `points` and set the network's buffers that depend on them."""
    network.observe(torch.from_numpy(examples.ids[np.unique(examples.event[points])]))
    profile = torch.from_numpy(examples.profile[points])
    nums = torch.from_numpy(examples.nums[examples.event[points]])
    network.set_standardisation(
        profile.mean(0),
        profile.std(0, correction=0),
        nums.mean(0),
        nums.std(0, correction=0),
    )


def point_loss(logits_qK: Tensor, labels_qK: Tensor, weight_q: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sum of binary cross-entropies and of weights per target, both [K]."""
    known = ~torch.isnan(labels_qK)
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits_qK, labels_qK.nan_to_num(), reduction="none"
    )
    weights = known * weight_q.unsqueeze(1)
    return (losses * weights).sum(0), weights.sum(0)


def batch_logits(network: Network, batch: Batch) -> Tensor:
    """Logits [q,K] of all points of a batch."""
    start = network.initial(len(batch.length))
    states = network.scan(start, batch.ids, batch.nums, batch.length)
    return network.heads(states[batch.row, batch.position], batch.profile)


def predict_logits(network: Network, batches: Batches, size: int) -> F32:
    """Logits [size,K] by point, NaN for points that are not in `batches`."""
    out = np.full((size, network.targets), np.nan, np.float32)
    network.eval()
    with torch.inference_mode():
        for batch in batches:
            out[batch.points.cpu().numpy()] = batch_logits(network, batch).cpu().numpy()
    return out


def fit_logistic(network: Network, examples: Examples, points: Index, config: FitConfig) -> None:
    """Fit a network that reads the profile only: a convex problem, solved by L-BFGS."""
    standardise(network, examples, points)
    profile = torch.from_numpy(examples.profile[points])
    labels = torch.from_numpy(examples.labels[points])
    weight = torch.from_numpy(examples.weight[points])
    nothing = network.initial(len(points))
    parameters = list(network.parameters())
    weights = [parameter for parameter in parameters if parameter.dim() > 1]
    solver = torch.optim.LBFGS(
        parameters, max_iter=config.logistic_steps, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        sums, known = point_loss(network.heads(nothing, profile), labels, weight)
        penalty = sum((matrix.square().sum() for matrix in weights), torch.zeros(()))
        loss = (sums / known).sum() + config.logistic_penalty * penalty
        loss.backward()
        return loss

    network.train()
    solver.step(closure)
    network.eval()


def fit_blend(spec: NetworkSpec, examples: Examples, points: Index, config: FitConfig) -> Blend:
    """A blend whose process is fitted to the histories of `points`, its weights to their labels."""
    blend = Blend(spec)
    blend.process.set_parameters(fit_process(examples.profile[points]))
    fit_logistic(blend, examples, points, config)
    return blend


def fit_sequences(
    network: Network,
    examples: Examples,
    train: Index,
    stopping: Index,
    config: FitConfig,
    device: torch.device,
    architecture: str,
    report: Report | None = None,
) -> None:
    """Fit a network over event windows and leave it at its best epoch.

    Raises:
        TrainingError: the loss became NaN.
    """
    standardise(network, examples, train)
    network.to(device)
    batches = Batches(examples, train, config.windows, device)
    held_out = Batches(examples, stopping, 4 * config.windows, device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=config.epochs * len(batches), pct_start=0.05
    )
    per_batch = _total_weight(batches) / len(batches)
    rng = np.random.default_rng(config.seed)
    best, since = copy.deepcopy(network.state_dict()), 0
    best_loss = gained_from = stopping_loss(network, held_out, examples)
    for epoch in range(1, config.epochs + 1):
        network.train()
        total = 0.0
        for batch in batches.shuffled(rng):
            sums, _ = point_loss(batch_logits(network, batch), batch.labels, batch.weight)
            loss = (sums / per_batch).sum()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimiser.step()
            schedule.step()
            total += loss.item()
        current = stopping_loss(network, held_out, examples)
        if not np.isfinite(total + current):
            raise TrainingError(
                f"{architecture}: the loss is not finite in epoch {epoch}; lower "
                f"train.learning_rate (now {config.learning_rate})"
            )
        if report is not None:
            report(Progress(architecture, epoch, config.epochs, total / len(batches), current))
        since += 1
        if current < best_loss:
            best, best_loss = copy.deepcopy(network.state_dict()), current
        if current < gained_from - config.min_gain:
            gained_from, since = current, 0
        if since >= config.patience:
            break
    network.load_state_dict(best)
    network.to("cpu").eval()


def _total_weight(batches: Batches) -> Tensor:
    parts = [(~torch.isnan(b.labels) * b.weight.unsqueeze(1)).sum(0) for b in batches]
    return torch.stack(parts).sum(0)


def stopping_loss(network: Network, batches: Batches, examples: Examples) -> float:
    """Log-loss, summed over the targets, after calibration on the same points.

    Rates drift between the slices, and calibration will follow them; what must not be stopped for
    is a shift that two numbers mend.
    """
    logits = predict_logits(network, batches, len(examples))
    total = 0.0
    for column in range(network.targets):
        known = batches.points[~np.isnan(examples.labels[batches.points, column])]
        labels = examples.labels[known, column]
        platt = fit_platt(logits[known, column], labels)
        total += log_loss(labels, platt.probabilities(logits[known, column]))
    return total
