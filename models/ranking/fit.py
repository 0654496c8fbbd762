"""Fitting what ranks the next category or item: moments of histories, the loss, early stopping.

A moment is an event that another one follows; its truth is the code of that one. The loss is the
mean negative log-probability of the truths, over everything that can be ranked (`NextHead`); it
stops falling on the windows of other users when there is nothing more to learn.

Legend: N events, W windows of events, B windows in a batch, L events of the longest, q moments,
R recent events; C, F, H and V as in `models.networks.next_head`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.dataset import F32, I64, Index
from models.errors import TrainingError
from models.fitting.checkpoint import Counters
from models.fitting.config import FitConfig
from models.fitting.fit import Progress, Report
from models.fitting.schedule import learning_rate
from models.fitting.stepping import by_length, shuffled, take_step
from models.fitting.stopping import judge, weights_of
from models.inputs.reach import used_events
from models.networks.base import Network, NetworkSpec
from models.networks.next_head import NextConfig, NextHead

LEAST_HISTORY: Final = 2
"""Events up to a moment, at least."""
VOCABULARY: Final = 4096
"""Codes of a vocabulary, at most, unless told otherwise."""
MOMENTS: Final = 24
"""Moments of a window that an epoch learns from, at most; drawn anew for each."""
AT_ONCE: Final = 512
"""Moments of one call where nothing is learnt, which bounds memory: each has a number per code, and
per pair of recent events."""
HEAD_FIT: Final = FitConfig(
    epochs=8, patience=2, min_gain=1e-3, windows=32, learning_rate=3e-3, weight_decay=0.01
)
"""How heads are fitted, alone or with the network whose states they read."""

Known = Callable[[I64], NDArray[np.bool_]]
"""Codes [V] -> which of them may be told."""


@dataclass(frozen=True)
class Windows:
    """W stretches of events, each of one user and in order."""

    ids: I64
    """[N,C] events, of all windows."""
    nums: F32
    """[N,F] of the same events, not standardised."""
    start: Index
    """[W] first event of each."""
    end: Index
    """[W] one past the last event of each."""
    least: Index | None = None
    """[W] first moment of each that is asked for, counted from the window's first event; None: any
    that has seen `LEAST_HISTORY` events, which holds in any case."""

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: Index) -> Windows:
        """The windows at `index`."""
        least = None if self.least is None else self.least[index]
        return Windows(self.ids, self.nums, self.start[index], self.end[index], least)

    @property
    def length(self) -> Index:
        """[W] events of each."""
        return self.end - self.start

    @property
    def first(self) -> Index:
        """[W] first moment of each, counted from the window's first event."""
        least = np.full(len(self), LEAST_HISTORY - 1)
        return least if self.least is None else np.maximum(least, self.least)

    @property
    def asked(self) -> Index:
        """The windows that have any moment."""
        return np.flatnonzero(self.length - 1 > self.first)

    @property
    def events(self) -> Index:
        """The events that are in any window, ascending."""
        used, _ = used_events(self.start, self.end - 1, len(self.ids))
        return used


@dataclass(frozen=True)
class Moments:
    """q moments of B windows."""

    ids: Tensor
    """[B,L,C]."""
    nums: Tensor
    """[B,L,F]."""
    length: Tensor
    """[B]."""
    row: Tensor
    """[q] window of each moment."""
    position: Tensor
    """[q] last event that a moment has seen."""
    truth: Tensor
    """[q] code of the event after it."""

    def take(self, index: Tensor) -> Moments:
        """The moments at `index`, of the same windows."""
        row, position, truth = self.row[index], self.position[index], self.truth[index]
        return replace(self, row=row, position=position, truth=truth)

    def recent(self, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """The last events up to each moment, right-padded: [q,R,C], [q,R,F] and how many [q]."""
        length = (self.position + 1).clamp(max=most)
        rank = torch.arange(int(length.max()))
        place = (self.position + 1 - length).unsqueeze(1) + rank
        place = torch.minimum(place, self.position.unsqueeze(1))
        row, inside = self.row.unsqueeze(1), (rank < length.unsqueeze(1)).unsqueeze(2)
        return self.ids[row, place] * inside, self.nums[row, place] * inside, length


def vocabulary(
    codes_N: I64, most: int = VOCABULARY, known: Known | None = None
) -> tuple[Tensor, Tensor]:
    """The `most` frequent codes of N events: codes [V], ascending, and counts [V+1] for a head.

    The last count is that of all other codes; 0 is no code. Of codes that are as frequent, the
    smaller ones are taken; those that are not `known` are not.

    Raises:
        TrainingError: no event has a code, or a known one.
    """
    codes, counts = np.unique(codes_N[codes_N != 0], return_counts=True)
    if len(codes) == 0:
        raise TrainingError("no event has a code of what is to be ranked")
    order = np.argsort(-counts, kind="stable")
    if known is not None:
        order = order[known(codes[order])]
        if len(order) == 0:
            raise TrainingError("of no code of what is to be ranked the name is known")
    kept = np.sort(order[:most])
    others = counts.sum() - counts[kept].sum()
    return torch.from_numpy(codes[kept]), torch.from_numpy(np.append(counts[kept], others))


def moments(
    windows: Windows, column: int, rng: np.random.Generator | None, most: int = MOMENTS
) -> Moments:
    """The windows as tensors, and `most` moments of each, drawn by `rng`; all where it is None."""
    length = windows.length
    rank = np.arange(int(length.max()))
    inside = rank < length[:, None]
    place = np.minimum(windows.start[:, None] + rank, len(windows.ids) - 1)
    ids = windows.ids[place] * inside[..., None]
    nums = windows.nums[place] * inside[..., None].astype(np.float32)
    asked = rank >= windows.first[:, None]
    asked[:, -1] = False
    asked[:, :-1] &= inside[:, 1:] & (ids[:, 1:, column] != 0)
    if rng is not None:
        drawn = np.where(asked, rng.random(asked.shape), 2.0).argsort(axis=1).argsort(axis=1)
        asked &= drawn < most
    row, position = np.nonzero(asked)
    return Moments(
        torch.from_numpy(ids),
        torch.from_numpy(nums),
        torch.from_numpy(length),
        torch.from_numpy(row),
        torch.from_numpy(position),
        torch.from_numpy(ids[row, position + 1, column]),
    )


def make_head(
    spec: NetworkSpec,
    network: Network | None,
    windows: Windows,
    config: NextConfig,
    most: int = VOCABULARY,
    known: Known | None = None,
) -> NextHead:
    """A head for a network (None: of no state) with the vocabulary of the windows' events.

    Raises:
        TrainingError: no event has a code, or a known one.
    """
    column = spec.int_features.index(config.what)
    codes_V, counts_U = vocabulary(windows.ids[windows.events, column], most, known)
    hidden_size = 0 if network is None else network.hidden_size
    return NextHead(spec, hidden_size, codes_V, counts_U, config)


def states(network: Network | None, batch: Moments) -> Tensor:
    """The states [q,H] of the moments."""
    if network is None:
        return torch.zeros(len(batch.row), 0)
    start = network.initial(len(batch.length))
    return network.scan(start, batch.ids, batch.nums, batch.length)[batch.row, batch.position]


def mean_loss(head: NextHead, network: Network | None, windows: Windows, size: int) -> float:
    """Mean negative log-probability of all truths of the windows, `size` windows at a time."""
    total, count = 0.0, 0
    _set_training(head, network, training=False)
    with torch.inference_mode():
        for part in by_length(windows.length, size):
            batch = moments(windows.take(part), head.column, None)
            hidden = states(network, batch)
            for index in torch.arange(len(batch.row)).split(AT_ONCE):
                some = batch.take(index)
                told = head(hidden[index], *some.recent(head.recent), some.truth)
                total -= float(told.double().sum())
            count += len(batch.row)
    return total / max(count, 1)


def fit_next(
    head: NextHead,
    network: Network | None,
    train: Windows,
    stopping: Windows,
    config: FitConfig,
    name: str,
    report: Report | None = None,
    *,
    frozen: bool = False,
) -> None:
    """Fit a head, and the network with it, and leave both at their best epoch.

    Args:
        head: its weights are changed.
        network: whose states it reads; None: of no state.
        train: windows that are learnt from.
        stopping: windows of other users, which say when to stop.
        config: see there; `windows` are in a step.
        name: for reports and errors.
        report: called after each epoch.
        frozen: the network stays as it is: another task has fitted it.

    Raises:
        TrainingError: the loss became NaN, or nobody has enough events.
    """
    for some in (train, stopping):
        if len(some.asked) == 0:
            raise TrainingError(
                f"{name}: nobody has more than {LEAST_HISTORY} events, which ranking is learnt from"
            )
    fit = _Fit(head, network, train, config, frozen=frozen)
    at, best = Counters(name), weights_of(fit.learnt)
    at.best_loss = at.gained_from = mean_loss(head, network, stopping, 4 * config.windows)
    while not at.ended:
        at.total = fit.epoch(at.epoch)
        current = mean_loss(head, network, stopping, 4 * config.windows)
        if judge(at, current, config, name):
            best = weights_of(fit.learnt)
        if report is not None:
            report(Progress(name, at.epoch, config.epochs, at.total, current, fit.rate, fit.norm))
    fit.learnt.load_state_dict(best)
    _set_training(head, network, training=False)


class _Fit:
    """A fit in the middle of its work."""

    def __init__(
        self,
        head: NextHead,
        network: Network | None,
        train: Windows,
        config: FitConfig,
        *,
        frozen: bool,
    ) -> None:
        self.head, self.network, self.train = head, network, train
        self.config, self.frozen = config, frozen
        self.learnt = nn.ModuleList([head] if frozen or network is None else [head, network])
        self.optimiser = torch.optim.AdamW(
            self.learnt.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step, self.rate, self.norm = 0, 0.0, 0.0
        _set_training(head, network, training=False)
        self.steps = config.epochs * -(-len(train) // config.windows)

    def epoch(self, number: int) -> float:
        """Learn from moments of every window; returns the mean loss."""
        rng = np.random.default_rng([self.config.seed, number])
        _set_training(self.head, None if self.frozen else self.network, training=True)
        total, count = 0.0, 0
        for part in shuffled(self.train.length, self.config.windows, rng):
            batch = moments(self.train.take(part), self.head.column, rng)
            if len(batch.row):
                total += self._learn(batch) * len(batch.row)
                count += len(batch.row)
        return total / max(count, 1)

    def _learn(self, batch: Moments) -> float:
        with torch.set_grad_enabled(not self.frozen):
            hidden = states(self.network, batch)
        told = self.head(hidden, *batch.recent(self.head.recent), batch.truth)
        loss = -told.mean()
        self.rate = learning_rate(self.step, self.steps, self.config)
        self.norm = take_step(self.optimiser, self.learnt, loss, self.rate, self.config.clip_norm)
        self.step += 1
        return float(loss.detach())


def _set_training(head: NextHead, network: Network | None, *, training: bool) -> None:
    head.train(training)
    if network is not None:
        network.train(training)
