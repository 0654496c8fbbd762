"""Daily recalibrations over the later half of a log: what subscribers get with them and without.

A model learns from the first half of a log. Over the second half it serves; every day its
probabilities are mapped to what is known of labels by then (`models.training.recalibrate`), and a
map is in effect from its fit to the next one. What is predicted just after events and at
random times in inactivity is evaluated apart, each user counting once, over all examples whose
label is known at the end. A fit knows no event after it.

Labels that are still open tell of the last days. What comes within the horizon of a prediction,
such as a season that no earlier label foretells, no map mends: the notes then say "above chance".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.dataset import DatasetConfig, Examples
from models.data.points import mix, uniform
from models.errors import DatasetError, EvaluationError
from models.evaluate import calibration_error, pr_auc
from models.evaluation.contest import ContestConfig, Say
from models.evaluation.results import F64, Figures, ModelResult, Panel, TaskResult
from models.evaluation.simulated_shop import SimulatedShop
from models.evaluation.sources import DAY, ONLINE_RETAIL, find, read_online_retail
from models.fitting.fit import FitConfig, predict_probabilities
from models.history import PURCHASE
from models.log.eventlog import EventLog
from models.networks import HIDDEN_SIZE
from models.networks.base import Network
from models.populations import EVENT, population_figures, populations, user_weights
from models.targets import Target, shop_targets
from models.training.candidates import Course, fit_candidates
from models.training.gate import GateRules, interval, losses, user_groups
from models.training.gather import gather
from models.training.recalibrate import (
    WIDER,
    RecalibrationRules,
    fit_maps,
    mapped,
    matured_examples,
)

RETAIL: Final = "live_online_retail"
DRIFTING: Final = "live_drifting_shop"
BEFORE: Final = "as_trained"
AFTER: Final = "recalibrated"
POINTS: Final = 20
"""Examples per user and population over the later half."""
RESAMPLES: Final = 400
TENTHS: Final = 10
GONE_AT_THE_END: Final = 0.6
"""Share of its purchases that the drifting shop has lost at the end of the log."""
GOAL: Final = 0.03
"""Calibration error that is aimed at."""
NETWORKS: Final = ("logistic", "blend")
"""Candidates; the one of the lower log-loss serves."""


@dataclass(frozen=True)
class Live:
    """Predictions of the later half, of one seed. J examples, K targets."""

    examples: Examples
    rows: NDArray[np.intp]
    """[J] Those of the later half."""
    before_JK: F64
    after_JK: F64
    days: int
    kept: int
    """Maps in effect, of `days` times targets times populations."""


def evaluate_retail(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Purchases within 30 days and churn over 42, on Online Retail."""
    log = read_online_retail(find(ONLINE_RETAIL, folders))
    targets = shop_targets(PURCHASE, 30 * DAY, 42 * DAY)
    return run(RETAIL, "Online Retail, live", log, targets, config, say)


def evaluate_drifting(shop: SimulatedShop, config: ContestConfig, say: Say) -> list[TaskResult]:
    """Purchases within 3 days and churn over 7, in a simulated shop that loses its buyers."""
    targets = shop_targets(PURCHASE, 3 * DAY, 7 * DAY)
    return run(DRIFTING, "Drifting shop, live", drifting(shop.log), targets, config, say)


def drifting(log: EventLog) -> EventLog:
    """The log with ever more of its purchases left out, from its middle on."""
    time = log.events.time
    first, last = int(time.min()), int(time.max())
    share = np.clip((time - (first + last) / 2) / ((last - first) / 2), 0, 1) * GONE_AT_THE_END
    gone = (log.events.type == PURCHASE) & (uniform(mix(log.events.id)) < share)
    return log.where(~gone)


def run(
    task: str,
    title: str,
    log: EventLog,
    targets: tuple[Target, ...],
    config: ContestConfig,
    say: Say,
) -> list[TaskResult]:
    """One result per target and population.

    Raises:
        EvaluationError: the log is too short.
    """
    lives = []
    for seed in config.seeds:
        try:
            lives.append(served(log, targets, replace(config.fit, seed=seed)))
        except DatasetError as error:
            raise EvaluationError(f"{task}: {error}") from error
        say(f"{task}: seed {seed}: {lives[-1].kept} maps in effect over {lives[-1].days} days")
    results = []
    for column, target in enumerate(targets):
        for population in populations(np.zeros(0, np.bool_)):
            where = "at events" if population == "event" else "in inactivity"
            days = target.horizon_ms / DAY
            name = f"{title}: {target.name} within {days:g} days, {where}"
            result = _result(f"{task}_{target.name}_{population}", name, lives, column, population)
            results.append(result)
            say(f"  {result.task}: {result.notes[1]}")
    return results


def served(log: EventLog, targets: tuple[Target, ...], fit: FitConfig) -> Live:
    """Train on the first half, serve the second, recalibrate every day.

    Raises:
        DatasetError: a half is too short.
    """
    time = log.events.time
    first, end = int(time.min()), int(time.max())
    middle = (first + end) // 2
    dataset = DatasetConfig(seed=fit.seed, min_points=50)
    network = _trained(log.until(middle), targets, dataset, fit, middle)
    rules = RecalibrationRules(points=POINTS)
    # Far enough back for the first fit: it learns from labels that were complete by then.
    reach = end - middle + WIDER * rules.window_ms
    examples = matured_examples(
        log, targets, dataset, end, replace(rules, window_ms=reach // WIDER), drop_late=False
    )
    said = predict_probabilities(network, examples, np.arange(len(examples)))
    after, kept, days = said.copy(), 0, 0
    for moment in range(middle, end - min(t.horizon_ms for t in targets), DAY):
        days += 1
        found = fit_maps(examples, said, targets, moment, dataset.settle_ms, rules)
        day = (examples.now > moment) & (examples.now <= moment + DAY)
        for population, part in populations(examples.at_event).items():
            for column, target in enumerate(targets):
                one = found.maps.get(population, {}).get(target.name)
                if one is not None:
                    rows = np.flatnonzero(day & part)
                    after[rows, column] = mapped(one, said[rows, column])
                    kept += 1
    rows = np.flatnonzero(examples.now > middle)
    return Live(examples, rows, said[rows], after[rows], days, kept)


def _trained(
    log: EventLog, targets: tuple[Target, ...], dataset: DatasetConfig, fit: FitConfig, now: int
) -> Network:
    gathered = gather(log, targets, dataset, drop_late=False, now=now)
    with torch.random.fork_rng():
        torch.manual_seed(fit.seed)
        fitted = fit_candidates(
            gathered.examples, targets, NETWORKS, fit, HIDDEN_SIZE, Course("cpu")
        )
    return min(fitted, key=lambda one: one.mean_log_loss(targets)).network


def _result(task: str, title: str, lives: list[Live], column: int, population: str) -> TaskResult:
    seeds: dict[str, list[Figures]] = {BEFORE: [], AFTER: []}
    for live in lives:
        chosen = _chosen(live, column, population)
        labels = live.examples.labels[live.rows[chosen], column].astype(np.float64)
        users = live.examples.user[live.rows[chosen]]
        for name, said in ((BEFORE, live.before_JK), (AFTER, live.after_JK)):
            found = population_figures(labels, said[chosen, column], users)
            seeds[name].append(
                {
                    "auroc": found["roc_auc"],
                    "pr_auc": pr_auc(labels, said[chosen, column]),
                    "log_loss": found["log_loss"],
                    "ece": found["ece"],
                    "ece_chance": found["ece_chance"],
                }
            )
    live = lives[0]
    chosen = _chosen(live, column, population)
    labels = live.examples.labels[live.rows[chosen], column].astype(np.float64)
    users = live.examples.user[live.rows[chosen]]
    before, after = live.before_JK[chosen, column], live.after_JK[chosen, column]
    notes = (
        (
            f"{len(labels)} examples of {len(np.unique(users))} users of the first seed, base rate"
            f" {float(np.average(labels, weights=user_weights(users))):.3f};"
            f" {live.days} days, {live.kept} maps in effect over all targets and populations."
        ),
        compared(labels, before, after, users),
    )
    return TaskResult(
        task=task,
        title=title,
        criterion="log_loss",
        higher_is_better=False,
        models={name: ModelResult(tuple(figures), "model") for name, figures in seeds.items()},
        notes=notes,
        labels=labels,
        probabilities={BEFORE: before, AFTER: after},
        where="just after events" if population == EVENT else "at random times in inactivity",
        panels=(_reliability(labels, {BEFORE: before, AFTER: after}, users),),
    )


def _reliability(labels: F64, said: dict[str, F64], users: NDArray[np.uint64]) -> Panel:
    """What came true by what was said, in tenths of the users' weight."""
    weights, lines = user_weights(users), {}
    for name, told in said.items():
        order = np.argsort(told, kind="stable")
        share = np.cumsum(weights[order]) / weights.sum()
        tenth = np.minimum((share * TENTHS).astype(np.intp), TENTHS - 1)
        size = np.bincount(tenth, weights[order], TENTHS)
        predicted, came = (
            np.bincount(tenth, weights[order] * values[order], TENTHS) / size
            for values in (told, labels)
        )
        error = calibration_error(labels, told, weights=weights)
        lines[f"{name}, ECE {error:.3f}"] = (predicted, came)
    return Panel("reliability, by tenths", "predicted", "came true", lines, diagonal=True)


def _chosen(live: Live, column: int, population: str) -> NDArray[np.intp]:
    known = ~np.isnan(live.examples.labels[live.rows, column])
    part = populations(live.examples.at_event[live.rows])[population]
    return np.flatnonzero(known & part)


def compared(labels: F64, before: F64, after: F64, users: NDArray[np.uint64]) -> str:
    """Log-loss and calibration error of both with intervals over users, and the verdict."""
    rules, weights = GateRules(resamples=RESAMPLES), user_weights(users)
    difference = losses(labels, after) - losses(labels, before)
    low, high = interval(difference, user_groups(users, 0), rules, weights_N=weights)
    errors = {name: _error_interval(labels, said, users) for name, said in
              ((BEFORE, before), (AFTER, after))}  # fmt: skip
    chance = population_figures(labels, after, users)["ece_chance"]
    found = calibration_error(labels, after, weights=weights)
    if found <= max(GOAL, chance):
        verdict = f"within {GOAL} or chance"
    else:
        verdict = f"above {GOAL} and chance"
    spans = ", ".join(
        f"{name} {calibration_error(labels, said, weights=weights):.4f} ({errors[name][0]:.4f} to"
        f" {errors[name][1]:.4f})"
        for name, said in ((BEFORE, before), (AFTER, after))
    )
    return (
        f"Log-loss by recalibration {float(np.average(difference, weights=weights)):+.4f}"
        f" ({low:+.4f} to {high:+.4f}); ECE {spans}, chance {chance:.4f}: {verdict}"
        " (first seed; 95 %, users resampled)."
    )


def _error_interval(labels: F64, said: F64, users: NDArray[np.uint64]) -> tuple[float, float]:
    """Basic bootstrap interval of the calibration error: resampling adds noise, which is undone."""
    weights = user_weights(users)
    _, of = np.unique(users, return_inverse=True)
    rng = np.random.default_rng(0)
    drawn = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        times = rng.multinomial(of.max() + 1, np.full(of.max() + 1, 1 / (of.max() + 1)))
        drawn[draw] = calibration_error(labels, said, weights=weights * times[of])
    found = calibration_error(labels, said, weights=weights)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return max(2 * found - float(high), 0.0), max(2 * found - float(low), 0.0)
