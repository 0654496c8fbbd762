"""Which of 100 categories, or products, a client buys: baselines and a log-linear model of cells.

Everything is fitted on the labels of the training window and evaluated on those of the next one,
with what was known before both. AUROC compares clients within a label, so how active a client is
counts as much as what the client looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.evaluate import RecencyBaseline
from models.evaluation.recsys2025.cells import (
    F32,
    F64,
    Cells,
    Lift,
    beside,
    contains,
    log_odds,
)
from models.history import I64

MOST_CELLS: Final = 200_000
"""Cells with events, and as many without, that the log-linear model learns from, at most."""
PENALTY: Final = 1e-4
STEPS: Final = 100


@dataclass(frozen=True)
class Question:
    """One propensity task: U clients, K labels."""

    profile: F32
    """[U,P] of each client at the split."""
    silence: F32
    """[U] log-hours since the last purchase, a large number where there was none."""
    cells: Cells
    """What clients had to do with the labels themselves."""
    groups: Cells | None
    """What they had to do with the labels' categories, where labels are products."""
    learnt: tuple[I64, I64]
    """(client [P], label [P]) that came true in the training window."""
    buyers: F64
    """[U] 1 for clients who bought anything in the training window, else 0."""

    @property
    def clients(self) -> int:
        """U."""
        return len(self.profile)

    @property
    def labels(self) -> int:
        """K."""
        return self.cells.labels

    @property
    def positive(self) -> I64:
        """[P] keys of the cells that came true in the training window, ascending."""
        row, label = self.learnt
        return np.sort(row * self.labels + label)

    @property
    def base(self) -> F64:
        """[K] log-odds of each label in the training window."""
        count = np.bincount(self.learnt[1], minlength=self.labels)
        return log_odds((count + 0.5) / (self.clients + 1))


def popularity(question: Question) -> F32:
    """[U,K]: each label's rate, the same for every client; AUROC is 0.5."""
    return np.tile(question.base.astype(np.float32), (question.clients, 1))


def buyers(question: Question) -> F32:
    """[U,K]: each label's rate times how likely the client buys anything, by the last purchase."""
    rate = RecencyBaseline.fit(question.silence, question.buyers)
    lift = log_odds(rate.predict(question.silence)) - log_odds(float(question.buyers.mean()))
    logits = popularity(question)
    logits += lift.astype(np.float32)[:, None]
    return logits


def recency(question: Question) -> F32:
    """[U,K]: each label's rate by how long ago the client had to do with it: recent items."""
    return _lifted(question, question.cells, -question.cells.age)


def frequency(question: Question) -> F32:
    """[U,K]: each label's rate by how often the client bought it or put it into the cart."""
    return _lifted(question, question.cells, question.cells.count)


def item_to_category(question: Question) -> F32:
    """[U,K]: each product's rate by how long ago the client had to do with its category."""
    if question.groups is None:
        raise ValueError("only products have categories")
    return _lifted(question, question.groups, -question.groups.age)


def _lifted(question: Question, cells: Cells, values_E: I64) -> F32:
    positive = question.positive
    size = question.clients * question.labels
    lift = Lift.fit(values_E, contains(positive, cells.key), size, len(positive))
    logits = popularity(question)
    logits += np.float32(lift.empty)
    logits[cells.row, cells.label] += lift.of(values_E)
    return logits


def log_linear(question: Question, seed: int) -> F32:
    """[U,K]: logistic regression on the client's profile, the label's rate and the cell.

    One set of weights for all labels. It learns from all cells that came true, a sample of the
    others that have events, and a weighted sample of the empty ones.

    Args:
        question: see there.
        seed: of the samples.
    """
    if question.groups is None:
        key, features = question.cells.key, question.cells.features
    else:
        key, features = beside(question.cells, question.groups)
    profile = _standardised(question.profile)
    cells, truth, weight = _sample(question, key, seed)
    width = profile.shape[1]
    columns = np.zeros((len(cells), width + 2 + features.shape[1]))
    columns[:, :width] = profile[cells // question.labels]
    columns[:, width] = question.base[cells % question.labels]
    columns[:, width + 1] = 1
    known = contains(key, cells)
    columns[known, width + 2 :] = features[np.searchsorted(key, cells[known])]
    weights = _fitted(columns, truth, weight).astype(np.float32)
    logits = np.add.outer(
        profile.astype(np.float32) @ weights[:width] + weights[width + 1],
        question.base.astype(np.float32) * weights[width],
    )
    logits[key // question.labels, key % question.labels] += features @ weights[width + 2 :]
    return np.asarray(logits, np.float32)


def _standardised(profile: F32) -> F32:
    spread = profile.std(axis=0)
    return np.asarray(
        (profile - profile.mean(axis=0)) / np.where(spread > 0, spread, 1), np.float32
    )


def _sample(question: Question, key: I64, seed: int) -> tuple[I64, F64, F64]:
    """Cells [S] to learn from, whether each came true, and what it counts."""
    rng = np.random.default_rng(seed)
    positive = question.positive
    others = key[~contains(positive, key)]
    some = rng.choice(others, min(MOST_CELLS, len(others)), replace=False)
    size = question.clients * question.labels
    drawn = np.unique(rng.integers(0, size, MOST_CELLS))
    empty = drawn[~contains(positive, drawn) & ~contains(key, drawn)]
    nothing = size - len(others) - len(positive)
    cells = np.concatenate([positive, some, empty])
    truth = np.zeros(len(cells))
    truth[: len(positive)] = 1
    weight = np.concatenate(
        [
            np.ones(len(positive)),
            np.full(len(some), len(others) / max(len(some), 1)),
            np.full(len(empty), nothing / max(len(empty), 1)),
        ]
    )
    return cells, truth, weight


def _fitted(columns_SD: F64, truth_S: F64, weight_S: F64) -> F64:
    """Weights [D] of a penalised logistic regression, by L-BFGS; the intercept is not the last."""
    scale = np.maximum(np.abs(columns_SD).max(axis=0), 1e-9)
    inputs = torch.from_numpy(columns_SD / scale)
    truth = torch.from_numpy(truth_S)
    weight = torch.from_numpy(weight_S / weight_S[truth_S > 0].sum())
    weights = torch.zeros(inputs.size(1), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            inputs @ weights, truth, weight=weight, reduction="sum"
        )
        loss = loss + PENALTY * weights.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    found: F64 = weights.detach().numpy() / scale
    return found
