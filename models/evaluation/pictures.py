"""An evaluation as pictures: one file per task."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.errors import EvaluationError
from models.evaluation.results import F64, Panel, TaskResult
from schemas.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN: Final = (
    "recency",
    "bg_nbd",
    "boosting",
    "logistic",
    "published",
    "windows_logistic",
    "windows_boosting",
    "gru",
    "plain_gru",
    "session_boosting",
)
"""Models that are drawn beside the default, where there are such."""
BINS: Final = 10
DPI: Final = 64
COLOURS: Final = 32
CURVE_POINTS: Final = 200


def draw(result: TaskResult, folder: Path) -> Path:
    """Draw a task into `folder`; returns the file.

    Raises:
        EvaluationError: the file cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    figure = _figure(_size(result))
    if result.panels:
        for place, panel in enumerate(result.panels):
            _panel(figure.add_subplot(1, len(result.panels), place + 1), panel)
    elif len(result.labels):
        axes = figure.subplots(2, 3)
        _receiver(axes[0, 0], result)
        _precision(axes[0, 1], result)
        _calibration(axes[0, 2], result)
        _lift(axes[1, 0], result)
        _training(axes[1, 1], result)
        _slices(axes[1, 2], result)
    else:
        _ranking(figure.subplots(), result)
    figure.suptitle(f"{result.title}; default: {result.default}")
    figure.tight_layout()
    path = folder / f"{result.task}.png"
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, format="png")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _save(drawn, path)
    except OSError as error:
        raise EvaluationError(f"cannot write {path}: {error}") from error
    return path


def _size(result: TaskResult) -> tuple[float, float]:
    """In inches."""
    if result.panels:
        return 5.5 * len(result.panels), 4.3
    return (15, 8.6) if len(result.labels) else (7, 3.4)


def _panel(axes: Axes, panel: Panel) -> None:
    for name, (x, y) in panel.lines.items():
        axes.plot(x, y, marker="o", markersize=3, linewidth=1.2, label=name)
    if panel.diagonal:
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.6)
    _finish(axes, panel.title, panel.x, panel.y)


def _figure(size: tuple[float, float]) -> Any:
    need("evaluate", "the report")
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    return Figure(figsize=size)


def _save(drawn: io.BytesIO, path: Path) -> None:
    """Few colours make a small file, for a page that is kept in version control."""
    from PIL import Image  # noqa: PLC0415  # matplotlib brings it

    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def _drawn(result: TaskResult) -> dict[str, F64]:
    names = dict.fromkeys((result.default, *SHOWN))
    return {n: result.probabilities[n] for n in names if n in result.probabilities}


def _receiver(axes: Axes, result: TaskResult) -> None:
    for name, told in _drawn(result).items():
        positive = result.labels[np.argsort(-told, kind="stable")]
        found = np.cumsum(positive) / max(positive.sum(), 1)
        wrong = np.cumsum(1 - positive) / max((1 - positive).sum(), 1)
        at = _thinned(len(found))
        axes.plot(wrong[at], found[at], label=f"{name} {result.models[name].mean('auroc'):.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.6)
    _finish(axes, "ROC", "share of negatives", "share of positives found")


def _precision(axes: Axes, result: TaskResult) -> None:
    for name, told in _drawn(result).items():
        positive = result.labels[np.argsort(-told, kind="stable")]
        found = np.cumsum(positive)
        precision = found / np.arange(1, len(found) + 1)
        at = _thinned(len(found))
        label = f"{name} {result.models[name].mean('pr_auc'):.3f}"
        axes.plot(found[at] / max(positive.sum(), 1), precision[at], label=label)
    axes.axhline(float(result.labels.mean()), color="grey", linewidth=0.6)
    _finish(axes, "precision and recall", "recall", "precision")


def _calibration(axes: Axes, result: TaskResult) -> None:
    for name, told in _drawn(result).items():
        edges = np.unique(np.quantile(told, np.linspace(0, 1, BINS + 1)[1:-1]))
        place = np.searchsorted(edges, told, side="right")
        size = np.maximum(np.bincount(place), 1)
        label = f"{name}, ECE {result.models[name].mean('ece'):.3f}"
        axes.plot(
            np.bincount(place, weights=told) / size,
            np.bincount(place, weights=result.labels) / size,
            marker="o",
            markersize=3,
            label=label,
        )
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.6)
    _finish(axes, "calibration, by deciles", "predicted", "observed")


def _lift(axes: Axes, result: TaskResult) -> None:
    for name, told in _drawn(result).items():
        ranked = result.labels[np.argsort(-told, kind="stable")]
        rates = np.array([part.mean() for part in np.array_split(ranked, BINS)])
        lift = rates / max(float(result.labels.mean()), 1e-9)
        axes.plot(np.arange(1, BINS + 1), lift, marker="o", markersize=3, label=name)
    axes.axhline(1.0, color="grey", linewidth=0.6)
    _finish(axes, "lift by decile", "decile, highest scores first", "rate / base rate")


def _training(axes: Axes, result: TaskResult) -> None:
    for name, curve in result.curves.items():
        epochs = np.arange(1, len(curve) + 1)
        (line,) = axes.plot(epochs, [loss for loss, _ in curve], label=f"{name}, training")
        stopping = [loss for _, loss in curve]
        axes.plot(epochs, stopping, "--", color=line.get_color(), label=f"{name}, stopping")
    _finish(axes, "training curves, first seed", "epoch", "log-loss")


def _slices(axes: Axes, result: TaskResult) -> None:
    axes.axis("off")
    axes.set_title(f"slices of {result.default}, last seed")
    cells = [
        [
            part.name,
            str(part.points),
            *(f"{part.figures[name]:.3f}" for name in ("auroc", "log_loss", "ece")),
        ]
        for part in result.slices
    ]
    if cells:
        columns = ["slice", "points", "AUROC", "log-loss", "ECE"]
        table = axes.table(cellText=cells, colLabels=columns, loc="center")
        table.auto_set_column_width(list(range(len(columns))))
        table.scale(1, 1.5)


def _ranking(axes: Axes, result: TaskResult) -> None:
    """Each model by the criterion, the best one at the top."""
    names = sorted(result.models, key=lambda name: result.models[name].mean(result.criterion))
    if not result.higher_is_better:
        names.reverse()
    values = [result.models[name].mean(result.criterion) for name in names]
    axes.barh(names, values)
    axes.set_xlabel(result.criterion)


def _thinned(size: int) -> Any:
    return np.unique(np.linspace(0, size - 1, CURVE_POINTS).astype(np.intp))


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.has_data() and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
