"""What an evaluation found, and its JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Figures = dict[str, float]
Kind = Literal["baseline", "network", "mixture", "model", "truth"]
"""A network is one of `models.networks`, a mixture averages several; a model is anything else."""


@dataclass(frozen=True)
class ModelResult:
    """One model on one task, over the seeds."""

    seeds: tuple[Figures, ...]
    """Figures of each seed."""
    kind: Kind
    """What sort of thing it is."""

    def mean(self, name: str) -> float:
        """Mean of a figure over the seeds."""
        return float(np.mean([figures[name] for figures in self.seeds]))

    def spread(self, name: str) -> float:
        """Largest less smallest of a figure over the seeds."""
        values = [figures[name] for figures in self.seeds]
        return max(values) - min(values)

    @property
    def names(self) -> tuple[str, ...]:
        """The figures there are."""
        return tuple(self.seeds[0])

    def to_json(self) -> dict[str, Any]:
        """Means by name, the spreads, and the seeds' own figures."""
        return {
            **{name: _rounded(self.mean(name)) for name in self.names},
            "kind": self.kind,
            "spread": {name: _rounded(self.spread(name)) for name in self.names},
            "seeds": [
                {name: _rounded(value) for name, value in figures.items()} for figures in self.seeds
            ],
        }


@dataclass(frozen=True)
class Slice:
    """Figures of the default model on a part of the test points."""

    name: str
    points: int
    figures: Figures


@dataclass(frozen=True)
class Panel:
    """A part of a task's picture: lines by name."""

    title: str
    x: str
    y: str
    lines: dict[str, tuple[F64, F64]]
    """Name -> (x, y) of its places."""
    diagonal: bool = False
    """Whether the line on which both are equal is drawn."""


@dataclass(frozen=True)
class TaskResult:
    """All models on one task."""

    task: str
    title: str
    criterion: str
    """The figure by which the default is chosen."""
    higher_is_better: bool
    models: dict[str, ModelResult]
    notes: tuple[str, ...] = ()
    """What was chosen on the way, and why; one sentence each."""
    labels: F64 = field(default_factory=lambda: np.zeros(0))
    """[Q] of the test points; none for ranking tasks."""
    probabilities: dict[str, F64] = field(default_factory=dict)
    """Model -> [Q] of the first seed."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Network -> (training loss, stopping loss) by epoch, of the first seed."""
    slices: tuple[Slice, ...] = ()
    where: str = ""
    """At which moments users are predicted, for readers."""
    against: str = ""
    """The product beside the best baseline, in a few words, where an interval tells."""
    panels: tuple[Panel, ...] = ()
    """What is drawn, in place of the curves of the test points; of the first seed."""
    reference: dict[str, ModelResult] = field(default_factory=dict)
    """What no model can know: shown beside the others, never the default."""

    @property
    def default(self) -> str:
        """The model that is best by the criterion."""
        return self.best_of(self.models)

    def best_of(self, names: Iterable[str]) -> str:
        """Which of these models is best by the criterion."""
        sign = 1 if self.higher_is_better else -1
        return max(names, key=lambda name: sign * self.models[name].mean(self.criterion))

    def to_json(self) -> dict[str, Any]:
        """The task's part of `eval.json`."""
        return {
            "default": self.default,
            "criterion": self.criterion,
            "where": self.where,
            "against": self.against,
            "models": {name: model.to_json() for name, model in self.models.items()},
            "reference": {name: model.to_json() for name, model in self.reference.items()},
            "slices": [
                {
                    "slice": part.name,
                    "points": part.points,
                    **{name: _rounded(value) for name, value in part.figures.items()},
                }
                for part in self.slices
            ],
            "notes": list(self.notes),
        }


def to_json(results: list[TaskResult]) -> dict[str, Any]:
    """`eval.json`: {"tasks": {task: {"default", "models", ..}}}."""
    return {"tasks": {result.task: result.to_json() for result in results}}


def _rounded(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
