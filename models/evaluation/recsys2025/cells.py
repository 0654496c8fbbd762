"""Cells of (client, label): what a client had to do with a label, as a few numbers.

U clients, K labels; E cells that have any. All other cells are empty and are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.recsys2025.windows import DAY
from models.history import I64, PURCHASE
from schemas.events import TYPE_CODES

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CART: Final = TYPE_CODES["cart_add"]
REMOVED: Final = TYPE_CODES["cart_remove"]
HALF_LIVES: Final = (3 * DAY, 14 * DAY)
"""ms after which an event counts half."""
FEATURES: Final = (
    "log_purchases",
    "log_carts",
    "log_removals",
    *(f"decayed_{half // DAY}d" for half in HALF_LIVES),
    "recency",
)
RATE_BINS: Final = 20


@dataclass(frozen=True)
class Cells:
    """E cells, ascending by client, then label."""

    labels: int
    """K."""
    key: I64
    """[E] client * K + label."""
    count: I64
    """[E] purchases and carts."""
    age: I64
    """[E] ms since the last event."""
    features: F32
    """[E,F] `FEATURES`."""

    @classmethod
    def of(
        cls, row_M: I64, label_M: I64, time_M: I64, type_M: NDArray[np.uint8], labels: int, now: int
    ) -> Cells:
        """The cells of M events before `now`, ms."""
        key, of = np.unique(row_M.astype(np.int64) * labels + label_M, return_inverse=True)
        size = len(key)
        since = (now - time_M).astype(np.float64)
        newest = np.zeros(size, np.int64)
        np.maximum.at(newest, of, time_M)
        wanted = type_M != REMOVED

        def total(weight: F64 | NDArray[np.bool_]) -> F64:
            return np.bincount(of, weights=weight, minlength=size).astype(np.float64)

        age = now - newest
        columns = [np.log1p(total(type_M == each)) for each in (PURCHASE, CART, REMOVED)]
        columns += [np.log1p(total(wanted * 0.5 ** (since / half))) for half in HALF_LIVES]
        columns.append(1 / (1 + age / DAY))
        features = np.stack(columns, axis=1).astype(np.float32) if size else _none()
        return cls(labels, key, total(wanted).astype(np.int64), age, features)

    @property
    def row(self) -> I64:
        """[E] client."""
        return self.key // self.labels

    @property
    def label(self) -> I64:
        """[E]."""
        return self.key % self.labels

    def spread(self, group_of_label: NDArray[np.int16]) -> Cells:
        """Cells of (client, group) -> cells of (client, label), for each label of the group."""
        labels = len(group_of_label)
        order = np.argsort(group_of_label, kind="stable")
        ordered = group_of_label[order]
        first = np.searchsorted(ordered, self.label, side="left")
        count = np.searchsorted(ordered, self.label, side="right") - first
        source = np.repeat(np.arange(len(self.key)), count)
        within = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
        key = self.row[source] * labels + order[first[source] + within]
        sort = np.argsort(key)
        source = source[sort]
        return Cells(labels, key[sort], self.count[source], self.age[source], self.features[source])


def _none() -> F32:
    return np.empty((0, len(FEATURES)), np.float32)


def beside(one: Cells, other: Cells) -> tuple[I64, F32]:
    """The cells of either with both sets of features, 0 where one has none: ([E], [E,2F])."""
    key = np.union1d(one.key, other.key)
    width = len(FEATURES)
    features = np.zeros((len(key), 2 * width), np.float32)
    features[np.searchsorted(key, one.key), :width] = one.features
    features[np.searchsorted(key, other.key), width:] = other.features
    return key, features


def contains(key_E: I64, wanted_N: I64) -> NDArray[np.bool_]:
    """[N] which of the wanted cells are among those of `key_E`, ascending."""
    if not len(key_E):
        return np.zeros(len(wanted_N), np.bool_)
    at = np.minimum(np.searchsorted(key_E, wanted_N), len(key_E) - 1)
    return np.asarray(key_E[at] == wanted_N)


@dataclass(frozen=True)
class Lift:
    """How much likelier a label is by one number of its cell, in log-odds; equal-sized bins."""

    edges: F64
    by_bin: F64
    empty: float
    """Of cells without any event."""

    @classmethod
    def fit(
        cls, values_E: NDArray[np.generic], hits_E: NDArray[np.bool_], cells: int, positives: int
    ) -> Lift:
        """Fit on all cells of a window.

        Args:
            values_E: the number of each cell that has any event.
            hits_E: whether the label came true there.
            cells: U * K.
            positives: cells in which the label came true.
        """
        values = np.asarray(values_E, np.float64)
        mean = (positives + 1) / (cells + 2)
        rest = (positives - int(hits_E.sum()) + mean) / (cells - len(values) + 1)
        quantiles = np.linspace(0, 1, RATE_BINS + 1)[1:-1]
        edges = np.unique(np.quantile(values, quantiles)) if len(values) else np.empty(0)
        index = np.searchsorted(edges, values, side="right")
        size = len(edges) + 1
        n = np.bincount(index, minlength=size)
        hits = np.bincount(index, weights=hits_E, minlength=size)
        by_bin = log_odds((hits + mean) / (n + 1)) - log_odds(mean)
        return cls(edges, by_bin, float(log_odds(rest) - log_odds(mean)))

    def of(self, values_E: NDArray[np.generic]) -> F32:
        """[E] relative to a cell without events."""
        values = np.asarray(values_E, np.float64)
        found = self.by_bin[np.searchsorted(self.edges, values, side="right")] - self.empty
        return found.astype(np.float32)


def log_odds(probability: F64 | float) -> F64:
    """Log-odds, of probabilities strictly between 0 and 1 or nearly so."""
    bounded = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(bounded) - np.log1p(-bounded))
