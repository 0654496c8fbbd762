"""What comes next: the category or item of each user's last event, from all that came before.

Candidates are what the user has seen, what tends to follow what was seen last, and what is popular;
each has a few numbers (how popular, how often and how lately the user saw it, how often it follows
the last events of others), and a log-linear model learns their weights by a softmax over the
candidates. The numbers come from other events than the weights: for learning, from the earlier part
of each history; for judging, from all but the last event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

RECENT: Final = 100
"""Events looked back for candidates."""
FOLLOWED: Final = 3
"""Last events whose followers are candidates."""
FOLLOWERS: Final = 20
"""Followers of each that are candidates, the most frequent ones."""
POPULAR: Final = 50
"""Popular ones that are always candidates."""
DECAYS: Final = (1.0, 4.0, 16.0)
"""Scales, in events, by which a sighting is forgotten."""
WINDOW: Final = 5
"""Events within which one is taken to follow another."""
LEARNING_STEPS: Final = 60
PENALTY: Final = 1e-3


@dataclass(frozen=True)
class Sequences:
    """N events of U users, user by user, in order."""

    codes: I64
    """[N] what is to be foretold, numbered from 0."""
    starts: I64
    """[U] first event of each user."""

    @property
    def ends(self) -> I64:
        """[U] one past each user's last event."""
        return np.append(self.starts[1:], len(self.codes))


class Counts:
    """Popularity, and what follows what, of the events in ranges of a log."""

    def __init__(self, sequences: Sequences, upto: I64) -> None:
        """Count each user's events before `upto` [U]."""
        codes, size = sequences.codes, int(sequences.codes.max()) + 1
        seen = np.zeros(len(codes), np.bool_)
        pairs: list[I64] = []
        for start, end in zip(sequences.starts.tolist(), upto.tolist(), strict=True):
            seen[start:end] = True
        user = np.repeat(np.arange(len(upto)), sequences.ends - sequences.starts)
        for apart in range(1, WINDOW + 1):
            same = (user[apart:] == user[:-apart]) & seen[apart:]
            pairs.append(np.stack([codes[:-apart][same], codes[apart:][same]], axis=1))
        both = np.concatenate(pairs)
        key, times = np.unique(both[:, 0] * size + both[:, 1], return_counts=True)
        order = np.lexsort((-times, key // size))
        key, times = key[order], times[order]
        self.size = size
        self.popularity = np.bincount(codes[seen], minlength=size).astype(np.float64)
        self.popular = np.argsort(-self.popularity, kind="stable")[:POPULAR]
        self._before, self._after, self._times = key // size, key % size, times
        self._first = np.searchsorted(self._before, np.arange(size + 1))

    def followers(self, code: int) -> tuple[I64, I64]:
        """What follows `code`, most frequent first, and how often."""
        part = slice(int(self._first[code]), int(self._first[code + 1]))
        return self._after[part], self._times[part]


FEATURES: Final = (
    "log popularity",
    "is the last",
    *(f"sightings, forgotten by {decay:g}" for decay in DECAYS),
    "log sightings",
    "seen",
    "log rank of the last sighting",
    "1 / rank of the last sighting",
    *(f"log share of followers of event -{back + 1}" for back in range(FOLLOWED)),
)


def candidates(counts: Counts, history: I64) -> tuple[I64, F64]:
    """Candidates after a history (oldest first), and their features [candidates, features]."""
    recent = history[-RECENT:]
    follow = [counts.followers(int(code)) for code in history[: -FOLLOWED - 1 : -1]]
    found = np.unique(
        np.concatenate([recent, counts.popular, *(codes[:FOLLOWERS] for codes, _ in follow)])
    )
    place = np.searchsorted(found, recent)
    ago = np.arange(len(recent) - 1, -1, -1)
    columns = [np.log1p(counts.popularity[found]), (found == history[-1]).astype(np.float64)]
    for decay in DECAYS:
        weights = np.exp(-ago / decay)
        columns.append(np.bincount(place, weights=weights, minlength=len(found)))
    sightings = np.bincount(place, minlength=len(found))
    columns.append(np.log1p(sightings))
    rank = _rank_of_sighting(place, ago, len(found))
    known = sightings > 0
    columns += [known, np.where(known, np.log(rank), 0.0), np.where(known, 1 / rank, 0.0)]
    for back in range(FOLLOWED):
        share = np.zeros(len(found))
        if back < len(follow):
            codes, times = follow[back]
            at = np.minimum(np.searchsorted(found, codes), len(found) - 1)
            hit = found[at] == codes
            share[at[hit]] = times[hit] / times.sum()
        columns.append(np.log1p(100 * share))
    return found, np.stack(columns, axis=1)


def _rank_of_sighting(place: I64, ago: I64, size: int) -> F64:
    """1 for the candidate seen last, 2 for the one before among different ones, and so on."""
    last = np.full(size, len(ago))
    np.minimum.at(last, place, ago)
    order = np.argsort(np.argsort(last, kind="stable"), kind="stable")
    return order.astype(np.float64) + 1


@dataclass(frozen=True)
class Decisions:
    """D moments: their candidates side by side, and which one came true."""

    features: Tensor
    """[R, features] candidates of all moments."""
    moment: Tensor
    """[R] which moment each belongs to."""
    truth: Tensor
    """[D] row of what came true."""


def fit_weights(decisions: Decisions) -> tuple[Tensor, Tensor]:
    """(weights, scale) of the softmax over candidates, by L-BFGS."""
    scale = decisions.features.std(0).clamp(min=1e-6)
    rows = decisions.features / scale
    weights = torch.zeros(rows.size(1), dtype=torch.float64, requires_grad=True)
    moments = len(decisions.truth)
    solver = torch.optim.LBFGS([weights], max_iter=LEARNING_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        score = rows @ weights
        top = torch.full((moments,), -torch.inf, dtype=torch.float64)
        top = top.scatter_reduce(0, decisions.moment, score.detach(), "amax")
        total = torch.zeros(moments, dtype=torch.float64).index_add(
            0, decisions.moment, (score - top[decisions.moment]).exp()
        )
        loss = (total.log() + top - score[decisions.truth]).mean()
        loss = loss + PENALTY * weights.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return weights.detach(), scale


def gather(sequences: Sequences, counts: Counts, moments: I64, user: I64) -> Decisions:
    """The decisions at events `moments` [D] of users `user` [D].

    A moment whose truth is not among its candidates teaches nothing and is left out.
    """
    features, moment, truth = [], [], []
    rows = kept = 0
    for event, who in zip(moments.tolist(), user.tolist(), strict=True):
        codes, columns = candidates(counts, sequences.codes[sequences.starts[who] : event])
        place = int(np.searchsorted(codes, sequences.codes[event]))
        if place == len(codes) or codes[place] != sequences.codes[event]:
            continue
        features.append(columns)
        moment.append(np.full(len(codes), kept))
        truth.append(rows + place)
        rows, kept = rows + len(codes), kept + 1
    return Decisions(
        torch.from_numpy(np.concatenate(features)),
        torch.from_numpy(np.concatenate(moment)),
        torch.tensor(truth),
    )
