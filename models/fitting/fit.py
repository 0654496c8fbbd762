"""Fitting a network over sequences to examples: standardisation, the loss, early stopping.

A fit is a function of the examples, the configuration and the seed: the order of batches is drawn
anew from the seed and the epoch, dropout from the seed and the step. So it can go on from a
checkpoint, after any step, and ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from models.data.dataset import F32, Examples, Index
from models.evaluate import F64, sigmoid
from models.fitting.batches import Batch, Batches
from models.fitting.checkpoint import (
    Checkpoint,
    Counters,
    Saved,
    load,
    optimiser_tensors,
    restore_optimiser,
    save,
)
from models.fitting.config import FitConfig
from models.fitting.distributed import SINGLE, Group, PointLogits
from models.fitting.next_action import JointLogits, next_action
from models.fitting.schedule import learning_rate
from models.fitting.stepping import take_step
from models.fitting.stopping import calibrated_losses, judge, weights_of
from models.fitting.weighting import target_weights
from models.networks.base import Network

__all__ = [
    "FitConfig",
    "Progress",
    "Report",
    "batch_logits",
    "fit_sequences",
    "point_loss",
    "predict_logits",
    "sample_shift",
    "standardise",
    "stopping_losses",
]


@dataclass(frozen=True)
class Progress:
    """One line of news from a fit."""

    architecture: str
    epoch: int
    """Epochs done."""
    epochs: int
    train_loss: float
    stopping_loss: float
    learning_rate: float = 0.0
    """Of the epoch's last step."""
    gradient_norm: float = 0.0
    """Of the epoch's last step, before clipping."""


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
    """Weighted sum of binary cross-entropies and of points' weights per target, both [K]."""
    known = ~torch.isnan(labels_qK)
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits_qK, labels_qK.nan_to_num(), reduction="none"
    )
    weights = known * weight_q.unsqueeze(1)
    return (losses * weights).sum(0), weights.sum(0)


def batch_logits(network: Network, batch: Batch) -> Tensor:
    """Logits [q,K] of all points of a batch."""
    logits: Tensor = PointLogits(network)(*_inputs(batch))
    return logits


def _inputs(batch: Batch) -> tuple[Tensor, ...]:
    return batch.ids, batch.nums, batch.length, batch.row, batch.position, batch.profile


def predict_probabilities(network: Network, examples: Examples, points: Index) -> F64:
    """Calibrated probabilities [N,K] of N of the examples, on the CPU."""
    batches = Batches(examples, points, 256, torch.device("cpu"))
    return sigmoid(predict_logits(network, batches, len(examples))[points].astype(np.float64))


def predict_logits(network: Network, batches: Batches, size: int, group: Group = SINGLE) -> F32:
    """Logits [size,K] by point, NaN for points that are not in `batches`."""
    said = torch.zeros(size, network.targets)
    network.eval()
    with torch.inference_mode():
        for batch in batches:
            said[batch.points.cpu()] = batch_logits(network, batch).float().cpu()
    said = group.total(said)
    out = np.full((size, network.targets), np.nan, np.float32)
    out[batches.points] = said.numpy()[batches.points]
    return out


def fit_sequences(
    network: Network,
    examples: Examples,
    train: Index,
    stopping: Index,
    config: FitConfig,
    device: torch.device,
    architecture: str,
    report: Report | None = None,
    *,
    shift: F32 | None = None,
    group: Group = SINGLE,
    checkpoint: Checkpoint | None = None,
    warm: bool = False,
    exactly: int | None = None,
) -> int:
    """Fit a network over event windows and leave it at its best epoch.

    Args:
        network: its weights are changed.
        examples: labelled points.
        train: points to learn from.
        stopping: points that say when to stop.
        config: see there.
        device: where the network is fitted; it comes back to the CPU.
        architecture: for reports and errors.
        report: called after each epoch.
        shift: of each target's logits in the sample [K], see `models.fitting.sampling`.
        group: the processes that fit it together.
        checkpoint: where the fit is kept, so that it can go on.
        warm: the network goes on learning: its standardisation is kept.
        exactly: epochs, after which the weights are those of the last; `stopping` then only weighs
            the targets. None: as many as help.

    Returns:
        The epochs that its weights have learnt for.

    Raises:
        TrainingError: the loss became NaN.
        CheckpointError: a checkpoint cannot be written, is damaged or belongs to another fit.
    """
    if warm:
        # A new head would first have to be learnt, at the cost of what the states know.
        config = replace(config, next_action_weight=0.0)
    else:
        standardise(network, examples, train)
    network.to(device)
    fit = _Fit(network, examples, train, stopping, config, device, architecture, group)
    fit.offset = sample_shift(network, shift)
    fit.exactly = exactly
    fit.run(checkpoint if group.leads or checkpoint is None else _reading(checkpoint), report)
    network.to("cpu").eval()
    return fit.at.best_epoch


class _Fit:
    """A fit in the middle of its work."""

    def __init__(
        self,
        network: Network,
        examples: Examples,
        train: Index,
        stopping: Index,
        config: FitConfig,
        device: torch.device,
        architecture: str,
        group: Group,
    ) -> None:
        share = (device, group.rank, group.size)
        self.batches = Batches(examples, train, config.windows, *share)
        self.held_out = Batches(examples, stopping, 4 * config.windows, *share)
        self.network, self.examples, self.config = network, examples, config
        self.architecture, self.group, self.device = architecture, group, device
        self.auxiliary = next_action(network, config, device)
        self.learnt = JointLogits(network, self.auxiliary)
        self.module = group.wrap(self.learnt)
        moved = [parameter for parameter in self.learnt.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            moved, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.steps = config.epochs * len(self.batches)
        labels, weight = examples.labels[train], examples.weight[train]
        known = (~np.isnan(labels) * weight[:, None].astype(np.float64)).sum(0)
        self.per_batch = torch.from_numpy(known.astype(np.float32)).to(device) / len(self.batches)
        self.offset = torch.zeros(network.targets, device=device)
        self.half = _half_precision(config, device)
        self.name = _fingerprint(self, train)
        group.agree(self.name, "events")
        self.at = Counters(self.name)
        self.best: dict[str, Tensor] = {}
        self.norm = 0.0
        self.exactly: int | None = None

    def run(self, checkpoint: Checkpoint | None, report: Report | None) -> None:
        saved = load(checkpoint.path, self.name) if checkpoint and checkpoint.resume else None
        if saved is not None:
            self._restore(saved)
        else:
            self.best = weights_of(self.network)
            self.at.best_loss = self.at.gained_from = self._look()
        keep = checkpoint if checkpoint is not None and checkpoint.steps else None
        while not self.at.ended:
            self._epoch(keep)
            current = self._look()
            best = judge(self.at, current, self.config, self.architecture)
            if self.exactly is not None:
                best, self.at.best_epoch = True, self.at.epoch
                self.at.ended = self.at.epoch >= self.exactly
            if best:
                self.best = weights_of(self.network)
            if report is not None and self.group.leads:
                report(self._news(current))
            self.at.total = 0.0
            if keep is not None:
                save(keep.path, self._saved())
        self.network.load_state_dict(self.best)

    def _epoch(self, keep: Checkpoint | None) -> None:
        self.network.train()
        done = self.at.step - self.at.epoch * len(self.batches)
        rng = np.random.default_rng([self.config.seed, self.at.epoch + 1])
        for batch in self.batches.shuffled(rng, done):
            self._step(batch)
            if keep is not None and self.at.step % keep.steps == 0:
                save(keep.path, self._saved())

    def _step(self, batch: Batch) -> None:
        torch.manual_seed(_seed(self.config.seed, self.at.step, self.group.rank))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits, following = self.module(*_inputs(batch))
        sums, _ = point_loss(logits.float() + self.offset, batch.labels, batch.weight)
        losses = sums / self.per_batch
        loss = losses @ torch.tensor(self.at.weights, device=self.device)
        if self.auxiliary is not None:
            # A process without a share of the batch has no part in the loss, but takes every path
            # of the graph: the wrapper ends a process whose graph changes from step to step.
            mine = batch.weight.any().to(following.dtype)
            mean = mine * following * len(self.batches) / max(self.batches.followed, 1)
            loss = loss + self.config.next_action_weight * len(losses) * mean
        rate = learning_rate(self.at.step, self.steps, self.config)
        # The wrapper takes the mean over the processes; wanted is the sum.
        loss = loss * self.group.size
        self.norm = take_step(self.optimiser, self.learnt, loss, rate, self.config.clip_norm)
        self.at.step += 1
        self.at.total += float(self.group.total(losses.detach().sum()))

    def _news(self, current: float) -> Progress:
        rate = learning_rate(max(self.at.step - 1, 0), self.steps, self.config)
        mean = self.at.total / len(self.batches)
        epochs = self.config.epochs
        return Progress(self.architecture, self.at.epoch, epochs, mean, current, rate, self.norm)

    def _look(self) -> float:
        """The loss on the stopping slice; it also says how the targets are weighed from here."""
        losses = stopping_losses(self.network, self.held_out, self.examples, self.group)
        self.at.weights = target_weights(losses, self.config.task_weights, self.config.questions)
        return float(losses.sum())

    def _saved(self) -> Saved:
        auxiliary = {} if self.auxiliary is None else self.auxiliary.state_dict()
        optimiser = optimiser_tensors(self.optimiser)
        return Saved(self.at, self.network.state_dict(), self.best, optimiser, auxiliary)

    def _restore(self, saved: Saved) -> None:
        self.at = saved.counters
        self.network.load_state_dict(saved.network)
        if self.auxiliary is not None:
            self.auxiliary.load_state_dict(saved.auxiliary)
        self.best = saved.best
        restore_optimiser(self.optimiser, saved.optimiser)


def _reading(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint for a process that leaves the writing to another one."""
    return Checkpoint(checkpoint.path, 0, checkpoint.resume)


def sample_shift(network: Network, shift: F32 | None) -> Tensor:
    """`shift` [K] as a tensor where the network is; zeros where it is None."""
    if shift is None:
        return torch.zeros(network.targets, device=network.calibration_shift.device)
    return torch.from_numpy(shift).to(network.calibration_shift.device)


def _half_precision(config: FitConfig, device: torch.device) -> bool:
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bfloat16"


def _seed(seed: int, step: int, rank: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}/{step}/{rank}".encode()) >> 1


def _fingerprint(fit: _Fit, train: Index) -> str:
    """What the fit is a function of, as 32 hexadecimal digits."""
    examples = fit.examples
    digest = xxhash.xxh3_128()
    digest.update(repr((fit.architecture, fit.steps, sorted(asdict(fit.config).items()))).encode())
    for name, tensor in fit.network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy())
    for array in (examples.now, examples.labels, examples.user, examples.profile, train):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def stopping_losses(
    network: Network, batches: Batches, examples: Examples, group: Group = SINGLE
) -> F64:
    """Log-loss of each target [K] of the points in `batches`, as `calibrated_losses` has it."""
    logits = predict_logits(network, batches, len(examples), group)
    return calibrated_losses(logits[batches.points], examples.labels[batches.points])
