"""What a refresh costs beside a fit from the beginning, and what it loses.

    python -m benchmarks.refresh --seeds 3

A simulated shop of 90 days. One trainer learns from all but the last days and is then refreshed
with these alone, by the very call of `intentstream train --refresh`; another one learns from all of
it at once. Both models say what they think of points of the ten days after, which neither has seen.
"""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from models.data.split import VALIDATION
from models.evaluate import log_loss, roc_auc
from models.serving.scorer import Scorer
from models.training.choosing import probabilities_of
from models.training.gather import Gathered, gather
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.config.targets import targets_of
from stream.learning.sources import FromFiles
from stream.learning.trainer import Round, config_of, refresher_of, run_round
from stream.simulate import Faults, Plan, deliver, rows, simulate
from stream.simulate.plan import DAY_MS

LEARNT_DAYS, JUDGED_DAYS = 90, 10
START_MS = 1_700_000_000_000
HORIZONS = {"purchase_horizon_ms": DAY_MS, "churn_horizon_ms": 7 * DAY_MS}


def write_parts(plan: Plan, ends_ms: list[int], folder: Path) -> list[Path]:
    """The shop's events in a file per stretch of time, each up to one of `ends_ms`."""
    delivery = deliver(simulate(plan), Faults())
    paths = [folder / f"{number}.jsonl" for number in range(len(ends_ms))]
    files = [path.open("wb") for path in paths]
    for sent, row in zip(delivery.time, rows(delivery), strict=True):
        files[int(np.searchsorted(ends_ms, sent, side="right"))].write((row.value or b"") + b"\n")
    for file in files:
        file.close()
    return paths


def settings_in(folder: Path, architecture: str) -> Settings:
    """Settings of a trainer of its own, without a cluster."""
    train = {**HORIZONS, "architecture": architecture, "tensorboard": False}
    overrides = {"data_dir": folder / "data", "models_dir": folder / "models", "train": train}
    return load_settings(overrides=overrides)


def learn(settings: Settings, *paths: Path) -> Round:
    """One round of a trainer that goes on where it was; of one architecture, whatever is better."""
    source = FromFiles(paths)
    refresher = refresher_of(settings, source, kept=True)
    only = (settings.train.architecture,)
    refresher.config = replace(refresher.config, candidates=only)
    return run_round(settings, source, device="cpu", announced=False, refresher=refresher)


def judged_points(settings: Settings, paths: tuple[Path, ...], after_ms: int) -> Gathered:
    """Points of the latest slice of all of the log, less those up to `after_ms`."""
    config = config_of(settings, drop_late=False).dataset
    log = FromFiles(paths).read(None)
    found = gather(log, targets_of(settings), config, drop_late=False, now=int(time.time() * 1000))
    slices = found.examples.slice.copy()
    slices[(slices == VALIDATION) & (found.examples.now <= after_ms)] = -1
    return replace(found, examples=replace(found.examples, slice=slices))


def figures(gathered: Gathered, settings: Settings, done: Round) -> dict[str, Any]:
    """AUC and log-loss of a published model, by target."""
    examples = gathered.examples
    points = examples.of_slice(VALIDATION)
    said = probabilities_of(Scorer.load(done.folder, "cpu"), examples, points)
    found: dict[str, Any] = {"model": done.manifest.version, "seconds": round(done.seconds, 2)}
    for column, target in enumerate(targets_of(settings)):
        truth = examples.labels[points, column]
        known = ~np.isnan(truth)
        found[target.name] = {
            "points": int(known.sum()),
            "auc": round(roc_auc(truth[known], said[known, column]), 5),
            "log_loss": round(log_loss(truth[known], said[known, column]), 5),
        }
    return found


def main(
    users: Annotated[int, typer.Option(min=100)] = 5_000,
    events: Annotated[int, typer.Option(min=10_000)] = 400_000,
    new_days: Annotated[float, typer.Option(help="Days that the refresh learns from.")] = 1.0,
    architecture: Annotated[str, typer.Option(help="As train.architecture.")] = "gru",
    seeds: Annotated[int, typer.Option(min=1, help="Shops, one after the other.")] = 1,
) -> None:
    """Print for each shop what both models cost and how good they are."""
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            folder, end = Path(name), START_MS + LEARNT_DAYS * DAY_MS
            days = float(LEARNT_DAYS + JUDGED_DAYS)
            ends = [end - round(new_days * DAY_MS), end, START_MS + round(days * DAY_MS) + 1]
            plan = Plan(users, events, START_MS, days=days, seed=seed, lifetime_days=days)
            early, late, after = write_parts(plan, ends, folder)
            going_on = settings_in(folder / "refreshed", architecture)
            at_once = settings_in(folder / "whole", architecture)
            first, refreshed = learn(going_on, early), learn(going_on, late)
            whole = learn(at_once, early, late)
            points = judged_points(at_once, (early, late, after), end)
            found = {
                "seed": seed,
                "first": figures(points, going_on, first),
                "refreshed": figures(points, going_on, refreshed),
                "whole": figures(points, at_once, whole),
                "cost": round(refreshed.seconds / whole.seconds, 4),
            }
            typer.echo(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
