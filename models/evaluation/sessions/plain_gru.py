"""A plain GRU over the events of a session, as anyone would write it in an hour: a peer.

Type and category are embedded, the time since the event before is a number; one layer of 32 units,
a linear head at every event, cross-entropy over all events of the training sessions, Adam, early
stopping. It knows nothing of earlier sessions.

Shapes: S sessions, B of a batch, L events, K targets.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]

WIDTH: Final = 32
CATEGORY_ROWS: Final = 512
LONGEST: Final = 200
"""Events of a session that are read, the first ones; later ones get the last state's score."""


@dataclass(frozen=True)
class PlainFit:
    """How the plain GRU is fitted."""

    epochs: int = 30
    patience: int = 4
    batch: int = 64
    """Sessions per step."""
    rate: float = 3e-3


@dataclass(frozen=True)
class SessionEvents:
    """N events of sessions, those of one adjacent and in order of time."""

    kind: I64
    category: I64
    """[N] codes, hashed into rows here."""
    gap_ms: I64
    """[N] time since the event before in the session, 0 for the first."""
    starts: Index
    """[S] first event of each session."""

    @property
    def sizes(self) -> Index:
        """[S] events of each session."""
        return np.diff(self.starts, append=len(self.kind))


class PlainGru(nn.Module):
    """Events -> logits at each of them."""

    def __init__(self, targets: int) -> None:
        """Draw the weights from torch's generator."""
        super().__init__()
        self.kinds = nn.Embedding(16, 8)
        self.categories = nn.Embedding(CATEGORY_ROWS, 8)
        self.gru = nn.GRU(8 + 8 + 1, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, targets)

    def forward(self, kind_BL: Tensor, category_BL: Tensor, gap_BL: Tensor) -> Tensor:
        """Logits [B,L,K]."""
        vectors = [self.kinds(kind_BL), self.categories(category_BL), gap_BL.unsqueeze(2)]
        states, _ = self.gru(torch.cat(vectors, dim=2))
        logits: Tensor = self.head(states)
        return logits


def fit_plain_gru(
    events: SessionEvents,
    labels_NK: F32,
    train_N: NDArray[np.bool_],
    stopping_N: NDArray[np.bool_],
    seed: int,
    config: PlainFit | None = None,
) -> F32:
    """Logits [N,K] of all events, by a GRU that is fitted on some of them.

    Args:
        events: all of them.
        labels_NK: 1 or 0, NaN where unknown.
        train_N: events to learn from.
        stopping_N: events whose loss ends the fit.
        seed: of weights and order.
        config: see there.
    """
    config = config or PlainFit()
    rng = np.random.default_rng(seed)
    known = ~np.isnan(labels_NK)
    sessions = {
        name: np.flatnonzero(np.logical_or.reduceat(chosen, events.starts))
        for name, chosen in (("train", train_N), ("stopping", stopping_N))
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PlainGru(labels_NK.shape[1])
        optimiser = torch.optim.Adam(network.parameters(), lr=config.rate)
        best, best_loss, since = deepcopy(network.state_dict()), np.inf, 0
        for _ in range(config.epochs):
            for batch in _batches(events, sessions["train"], config.batch, rng):
                asked = torch.from_numpy(known[batch.index] & train_N[batch.index, None])
                loss = _losses(network, batch, labels_NK)[asked].mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
            current = _mean_loss(
                network, events, sessions["stopping"], labels_NK, known & stopping_N[:, None]
            )
            since += 1
            if current < best_loss:
                best, best_loss, since = deepcopy(network.state_dict()), current, 0
            if since >= config.patience:
                break
        network.load_state_dict(best)
    out = np.zeros_like(labels_NK)
    everything = np.arange(len(events.starts))
    with torch.inference_mode():
        for batch in _batches(events, everything, 512):
            out[batch.index] = network(*batch.inputs)[batch.row, batch.place].numpy()
    return out


@dataclass(frozen=True)
class _Batch:
    inputs: tuple[Tensor, Tensor, Tensor]
    row: Index
    place: Index
    index: Index
    """Events, and where in the batch each one's logits are."""


def _batches(
    events: SessionEvents, sessions: Index, size: int, rng: np.random.Generator | None = None
) -> list[_Batch]:
    """Sessions of like length together; in random order where there is a generator."""
    sizes = events.sizes
    order = sessions[np.argsort(sizes[sessions], kind="stable")]
    groups = [order[at : at + size] for at in range(0, len(order), size)]
    if rng is not None:
        groups = [groups[place] for place in rng.permutation(len(groups))]
    return [_batch(events, group, sizes[group]) for group in groups]


def _batch(events: SessionEvents, group: Index, sizes: Index) -> _Batch:
    width = min(int(sizes.max()), LONGEST)
    grid = events.starts[group][:, None] + np.arange(width)
    grid = np.minimum(grid, (events.starts[group] + sizes - 1)[:, None])
    row = np.repeat(np.arange(len(group)), sizes)
    within = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    gap = np.log1p(events.gap_ms[grid] / 60_000).astype(np.float32)
    category = events.category[grid] % CATEGORY_ROWS
    return _Batch(
        (
            torch.from_numpy(events.kind[grid]),
            torch.from_numpy(category),
            torch.from_numpy(gap),
        ),
        row,
        np.minimum(within, width - 1),
        events.starts[group][row] + within,
    )


def _losses(network: PlainGru, batch: _Batch, labels_NK: F32) -> Tensor:
    """Cross-entropy [n,K] at the events of a batch."""
    logits = network(*batch.inputs)[batch.row, batch.place]
    labels = torch.from_numpy(np.nan_to_num(labels_NK[batch.index]))
    return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def _mean_loss(
    network: PlainGru,
    events: SessionEvents,
    sessions: Index,
    labels_NK: F32,
    asked_NK: NDArray[np.bool_],
) -> float:
    total = count = 0.0
    with torch.inference_mode():
        for batch in _batches(events, sessions, 512):
            asked = torch.from_numpy(asked_NK[batch.index])
            total += float(_losses(network, batch, labels_NK)[asked].sum())
            count += float(asked.sum())
    return total / max(count, 1)
