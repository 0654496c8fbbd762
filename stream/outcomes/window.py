"""The last N matured predictions, and their figures next to the recency baseline's."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
import xxhash

from models.evaluate import calibration_error, log_loss, roc_auc
from models.populations import EVENT, TIMER, population_figures, populations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CalibrationRow", "Figures", "PerModel", "PopulationFigures", "Window"]

W = TypeVar("W")

TABLE_BINS: Final = 10
_FIRST_SIZE: Final = 1024


@dataclass(frozen=True)
class CalibrationRow:
    """Predictions with a probability in [low, high), the last bin with its end."""

    low: float
    high: float
    count: int
    predicted: float
    """Mean probability."""
    observed: float
    """Share that came true."""


@dataclass(frozen=True)
class PopulationFigures:
    """Figures of the predictions at events, or at timers, each user counting once."""

    matured: int
    users: int
    base_rate: float
    auc: float | None
    """None where all outcomes are the same."""
    log_loss: float
    base_log_loss: float
    ece: float
    ece_chance: float
    """See `models.populations.chance_error`."""


@dataclass(frozen=True)
class Figures:
    """Figures of the matured predictions of a window."""

    total: int
    """Matured ever; the window holds the last of them."""
    matured: int
    """In the window."""
    base_rate: float
    auc: float | None
    """None where all outcomes are the same."""
    recency_auc: float | None
    """Of the recency baseline, on the same predictions."""
    log_loss: float
    base_log_loss: float
    """Log-loss of always saying the base rate, which is known afterwards only."""
    ece: float
    calibration: tuple[CalibrationRow, ...]
    lift: float | None
    """Rate among the tenth with the highest probabilities over the base rate; None without one."""
    populations: Mapping[str, PopulationFigures] = field(default_factory=dict)
    """Of predictions at events and at timers apart, as far as there are any."""


class Window:
    """A ring of (label, probability, recency score, population, user) that grows up to its size."""

    def __init__(self, size: int) -> None:
        """Hold the last `size` predictions."""
        self._size = size
        self._rows = np.empty((min(size, _FIRST_SIZE), 4))
        self._users = np.empty(len(self._rows), np.uint64)
        self._total = 0

    def add(
        self,
        label: bool,  # noqa: FBT001
        probability: float,
        recency: float,
        user: str,
        population: str = EVENT,
    ) -> None:
        """Take in one matured prediction; of `recency` only the order counts."""
        room = len(self._rows)
        if self._total == room and room < self._size:
            size = min(2 * room, self._size)
            self._rows = np.concatenate([self._rows, np.empty((size - room, 4))])
            self._users = np.concatenate([self._users, np.empty(size - room, np.uint64)])
        place = self._total % len(self._rows)
        self._rows[place] = (label, probability, recency, population == TIMER)
        self._users[place] = xxhash.xxh3_64_intdigest(user.encode())
        self._total += 1

    def figures(self) -> Figures | None:
        """Compute the figures; None while the window is empty."""
        rows = self._rows[: self._total]
        if len(rows) == 0:
            return None
        users = self._users[: self._total]
        labels, probabilities, recency, at_timer = rows.T
        base = float(labels.mean())
        return Figures(
            total=self._total,
            matured=len(rows),
            base_rate=base,
            auc=_known(roc_auc(labels, probabilities)),
            recency_auc=_known(roc_auc(labels, recency)),
            log_loss=log_loss(labels, probabilities),
            base_log_loss=log_loss(labels, np.full(len(labels), base)),
            ece=calibration_error(labels, probabilities),
            calibration=_table(labels, probabilities),
            lift=_lift(labels, probabilities, base),
            populations={
                name: _population(labels[part], probabilities[part], users[part])
                for name, part in populations(at_timer == 0).items()
                if part.any()
            },
        )


class PerModel(Generic[W]):
    """A window per thing that is judged, of all models together and of each of the last few."""

    def __init__(self, make: Callable[[], W], models: int) -> None:
        """Begin without any.

        Args:
            make: a new window.
            models: that have windows of one thing, at most; of more, the one used last stays.
        """
        self._make = make
        self._models = models
        self._windows: OrderedDict[tuple[str | None, str], W] = OrderedDict()

    def of(self, version: str | None, name: str) -> W:
        """The window of a model, or with None of all; a new one where there is none yet."""
        key = (version, name)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = self._make()
            mine = [known for known in self._windows if known[0] and known[1] == name]
            if len(mine) > self._models:
                del self._windows[mine[0]]
        elif version:
            self._windows.move_to_end(key)
        return window

    def get(self, version: str | None, name: str) -> W | None:
        """The window of a model, or with None of all, if there is one."""
        return self._windows.get((version, name))

    def versions(self, name: str) -> list[str]:
        """Models that have a window of this, the one used last at the end."""
        return [version for version, known in self._windows if known == name and version]


def _population(
    labels: np.ndarray, probabilities: np.ndarray, users: np.ndarray
) -> PopulationFigures:
    found = population_figures(labels, probabilities, users)
    base = found["base_rate"]
    return PopulationFigures(
        matured=len(labels),
        users=int(found["users"]),
        base_rate=base,
        auc=_known(found["roc_auc"]),
        log_loss=found["log_loss"],
        base_log_loss=log_loss(np.array([1.0, 0.0]), np.full(2, base), np.array([base, 1 - base])),
        ece=found["ece"],
        ece_chance=found["ece_chance"],
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _lift(labels: np.ndarray, probabilities: np.ndarray, base: float) -> float | None:
    top = len(labels) // 10
    if top == 0 or base == 0:
        return None
    order = np.argsort(-probabilities, kind="stable")[:top]
    return float(labels[order].mean()) / base


def _table(labels: np.ndarray, probabilities: np.ndarray) -> tuple[CalibrationRow, ...]:
    index = np.minimum((probabilities * TABLE_BINS).astype(np.int64), TABLE_BINS - 1)
    rows = []
    for found in range(TABLE_BINS):
        inside = index == found
        if inside.any():
            rows.append(
                CalibrationRow(
                    found / TABLE_BINS,
                    (found + 1) / TABLE_BINS,
                    int(inside.sum()),
                    float(probabilities[inside].mean()),
                    float(labels[inside].mean()),
                )
            )
    return tuple(rows)
