"""The pictures of the page, with matplotlib (of `.venv-bench`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

_OURS, _PEER = "#1f6f8b", "#b8b8b8"
_COLOURS = {"at_least_once": "#1f6f8b", "exactly_once": "#c8553d"}
_STYLES = {"p50": "-", "p95": "--", "p99": ":"}


def throughput(contestants: Mapping[str, Any], path: Path) -> None:
    """Median events/s of everybody, with the spread."""
    names = sorted(contestants, key=lambda name: contestants[name]["median"])
    rows = [contestants[name] for name in names]
    medians = [row["median"] for row in rows]
    spread = [
        [row["median"] - row["least"] for row in rows],
        [row["most"] - row["median"] for row in rows],
    ]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1), layout="constrained")
    colours = [_OURS if name.startswith("intentstream") else _PEER for name in names]
    bars = axes.barh(names, medians, xerr=spread, color=colours, error_kw={"lw": 1})
    axes.bar_label(bars, [f"{median:,.0f}" for median in medians], padding=6, fontsize=8)
    axes.margins(x=0.12)
    axes.set_xlabel("events/s of one process: median, least and most")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def latency(raw: Mapping[str, Any], path: Path) -> None:
    """Percentiles over load, both guarantees."""
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for guarantee, colour in _COLOURS.items():
        rates = sorted(raw.get(guarantee, {}), key=int)
        for name, style in _STYLES.items():
            axes.plot(
                [int(rate) for rate in rates],
                [raw[guarantee][rate][name] for rate in rates],
                style,
                marker="o",
                ms=4,
                color=colour,
                label=f"{guarantee.replace('_', '-')}, {name}",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("events/s")
    axes.set_ylabel("ms from the producer's send to the subscriber's receive")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def stages(shares: Mapping[str, float], title: str, path: Path) -> None:
    """CPU seconds per million events by stage."""
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    names = list(shares)[::-1]
    axes.barh(names, [shares[name] for name in names], color=_OURS)
    axes.set_xlabel(title)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
