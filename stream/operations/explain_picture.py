"""An explanation as a picture: each past event's part in a score, and the profile's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from stream.operations.explain import Explanation

EVENTS: Final = 30
FEATURES: Final = 12
_UP, _DOWN = "#b2182b", "#2166ac"


def draw(explanation: Explanation, path: Path) -> None:
    """Write a PNG: per target the last events and the strongest features of the profile."""
    targets = list(explanation.attributions)
    figure = Figure(figsize=(13, 5 * len(targets)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(targets), 2, squeeze=False)
    for row, target in enumerate(targets):
        found = explanation.attributions[target]
        past = explanation.history[target][-EVENTS:]
        probability = explanation.reproduced[target]
        _bars(
            axes[row][0],
            [f"{_moment(event.event_time)} {event.type} {event.item_id or ''}" for event in past],
            [event.attribution or 0.0 for event in past],
            f"{target}: probability {probability:.4f}; part of each event in the logit",
        )
        strongest = sorted(found.profile.items(), key=lambda pair: abs(pair[1]))[-FEATURES:]
        _bars(
            axes[row][1],
            [name for name, _ in strongest],
            [part for _, part in strongest],
            f"{target}: part of the history's sums (baseline {found.baseline:+.2f})",
        )
    figure.suptitle(f"{explanation.prediction_id}, user {explanation.user_id}")
    figure.savefig(path, dpi=110)


def _bars(axes: object, names: list[str], parts: list[float], title: str) -> None:
    places = range(len(names))
    axes.barh(places, parts, color=[_UP if part > 0 else _DOWN for part in parts])  # type: ignore[attr-defined]
    axes.set_yticks(places, names, fontsize=7)  # type: ignore[attr-defined]
    axes.axvline(0, color="black", linewidth=0.8)  # type: ignore[attr-defined]
    axes.set_title(title, fontsize=9)  # type: ignore[attr-defined]


def _moment(time: int) -> str:
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M}"
