"""A simulated shop: does one model of hazards tell every horizon, and the wait for a purchase?

Points are labelled, fitted and calibrated as the trainer does it, so that what is known of a wait
ends where its slice of time does. They lie at random times, not just after an event: what browsing
says over the next minutes is not in the shop's truth. Beside each model of hazards stands one with
a head for each horizon.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.baselines.bgnbd import fit_process
from models.data.dataset import DatasetConfig, Examples, build_examples
from models.data.split import STOPPING, TRAIN, VALIDATION, TimeSplit
from models.evaluate import calibration_error
from models.evaluation.contest import PENALTIES, ContestConfig, Say, judged
from models.evaluation.results import F64, Figures, Kind, ModelResult, TaskResult
from models.evaluation.simulated_shop import DAY, NETWORKS, SimulatedShop
from models.fitting.batches import Batches
from models.fitting.fit import FitConfig, stopping_losses
from models.fitting.linear import fit_logistic
from models.history import PURCHASE
from models.log.eventlog import OrderedLog, in_order
from models.networks import HIDDEN_SIZE, build
from models.networks.process import PurchaseProcess
from models.serving.scorer import network_spec
from models.survival import expected_wait, hazard_targets, survival
from models.targets import OCCURS, Target
from models.training.candidates import Course, fit_candidates

TASK: Final = "simulated_return"
EDGES: Final = tuple(round(days * DAY) for days in (0.25, 0.5, 1, 2, 4, 7, 10, 14))
JUDGED: Final = 3 * DAY
"""The horizon of the table; it lies within a bin."""
HORIZONS: Final = (DAY, JUDGED, 7 * DAY, 12 * DAY)
SHARE: Final = 0.15
"""Of the usable time, for calibration and for the test each."""
POINTS: Final = 10
"""Per user."""
LEAST_POINTS: Final = 20
"""Labels per slice and bin, at least."""
STEPS: Final = 200
"""Of the integral of the true survival."""
BY_HORIZON: Final = "_by_horizon"
"""Marks the models with a head for each horizon."""

Told = dict[str, F64]
"""Model -> probabilities of a purchase within each of `HORIZONS`, [Q,4]."""


def evaluate(shop: SimulatedShop, config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run the task.

    Args:
        shop: events and truth.
        config: seeds (each draws points and weights), networks and how they are fitted.
        say: takes one line per step.

    Raises:
        DatasetError: the shop is too small or too short.
    """
    ordered = in_order(shop.log, None)
    networks = tuple(name for name in config.networks if name in NETWORKS)
    seeds: dict[str, list[Figures]] = {}
    fit = config.fit
    for place, seed in enumerate(config.seeds):
        examples = _examples(ordered, shop, seed)
        if place == 0:
            fit = replace(fit, logistic_penalty=_penalty(examples, fit))
            say(f"{TASK}: penalty {fit.logistic_penalty:g}")
        told, waits = _told(examples, networks, replace(fit, seed=seed))
        true_told, true_wait = _truth(examples, shop)
        test = examples.of_slice(VALIDATION)
        labels = examples.labels[test, len(EDGES) :]
        for name, probabilities in (told | {"true_hazard": true_told}).items():
            wait = true_wait if name == "true_hazard" else waits.get(name)
            figures = _figures(labels, probabilities, wait, true_wait)
            seeds.setdefault(name, []).append(figures)
        if place == 0:
            first = labels, told | {"true_hazard": true_told}, true_wait
        say(f"{TASK}: seed {seed} done")
    truth = ModelResult(tuple(seeds.pop("true_hazard")), "truth")
    models = {name: ModelResult(tuple(found), _kind(name)) for name, found in seeds.items()}
    labels, told, true_wait = first
    at = HORIZONS.index(JUDGED)
    known = ~np.isnan(labels[:, at])
    return [
        TaskResult(
            task=TASK,
            title="Simulated shop: when the next purchase comes, judged at 3 days",
            criterion="log_loss",
            higher_is_better=False,
            models=models,
            where="at random times, most of them in inactivity",
            notes=_notes(labels, told, true_wait, fit),
            labels=labels[known, at].astype(np.float64),
            probabilities={name: told[name][known, at] for name in models},
            reference={"true_hazard": truth},
        )
    ]


def targets() -> tuple[Target, ...]:
    """The bins of the hazards, then one target per horizon."""
    horizons = (
        Target(f"within_{horizon // DAY}d", OCCURS, PURCHASE, horizon) for horizon in HORIZONS
    )
    return (*hazard_targets(PURCHASE, EDGES), *horizons)


def _examples(ordered: OrderedLog, shop: SimulatedShop, seed: int) -> Examples:
    end = shop.start + shop.days * DAY
    split = TimeSplit.of(shop.start, end, EDGES[-1], 0, SHARE, SHARE)
    drawn = DatasetConfig(
        event_points=0, silence_points=POINTS, grace_ms=0, min_points=LEAST_POINTS, seed=seed
    )
    return build_examples(ordered, targets(), split, drawn)


def _penalty(examples: Examples, fit: FitConfig) -> float:
    """The penalty with which hazards lose least on the stopping slice."""
    hazards = targets()[: len(EDGES)]
    labelled = replace(examples, labels=examples.labels[:, : len(EDGES)])
    stopping = Batches(labelled, labelled.of_slice(STOPPING), 256, torch.device("cpu"))
    losses = {}
    for penalty in PENALTIES:
        network = build("logistic", network_spec(hazards))
        tried = replace(fit, logistic_penalty=penalty)
        fit_logistic(network, labelled, labelled.of_slice(TRAIN), tried)
        losses[penalty] = float(stopping_losses(network, stopping, labelled).sum())
    return min(losses, key=lambda penalty: losses[penalty])


def _told(
    examples: Examples, networks: tuple[str, ...], fit: FitConfig
) -> tuple[Told, dict[str, F64]]:
    """What all models say of the test points, and the waits [Q] that they expect, in ms."""
    train, test = examples.of_slice(TRAIN), examples.of_slice(VALIDATION)
    hazards, horizons = targets()[: len(EDGES)], targets()[len(EDGES) :]
    process = PurchaseProcess(network_spec(hazards), fit_process(examples.profile[test]))
    rates = np.nanmean(examples.labels[train, : len(EDGES)], axis=0, dtype=np.float64)
    found: dict[str, F64] = {
        "base_rate": np.broadcast_to(rates, (len(test), len(EDGES))),
        "bg_nbd": torch.sigmoid(process(torch.from_numpy(examples.profile[test]))).double().numpy(),
    }
    told: Told = {}
    for part, columns in ((hazards, slice(0, len(EDGES))), (horizons, slice(len(EDGES), None))):
        labelled = replace(examples, labels=examples.labels[:, columns])
        fitted = fit_candidates(labelled, part, networks, fit, HIDDEN_SIZE, Course("cpu"))
        for candidate in fitted:
            if part is hazards:
                found[candidate.architecture] = candidate.probabilities
            else:
                told[candidate.architecture + BY_HORIZON] = candidate.probabilities
    for name, hazards_QJ in found.items():
        at = [1 - survival(hazards_QJ, EDGES, horizon) for horizon in HORIZONS]
        told[name] = np.stack(at, axis=1)
    return told, {name: expected_wait(hazards_QJ, EDGES) for name, hazards_QJ in found.items()}


def _truth(examples: Examples, shop: SimulatedShop) -> tuple[F64, F64]:
    """True probabilities [Q,4] and waits [Q] of the test points."""
    test = examples.of_slice(VALIDATION)
    user, now = examples.user[test], examples.now[test]
    told = [shop.probability(user, now, horizon) for horizon in HORIZONS]
    moments = np.linspace(0, EDGES[-1], STEPS + 1)
    left = np.stack([1 - shop.probability(user, now, round(moment)) for moment in moments])
    return np.stack(told, axis=1), np.asarray(np.trapezoid(left, moments, axis=0), np.float64)


def _figures(labels: NDArray[np.float32], told: F64, wait: F64 | None, true_wait: F64) -> Figures:
    at = HORIZONS.index(JUDGED)
    known = ~np.isnan(labels[:, at])
    off = np.full(1, np.nan) if wait is None else (wait - true_wait) / DAY
    return {
        **judged(labels[known, at], told[known, at]),
        "wait_error_days": float(np.abs(off).mean()),
        "wait_bias_days": float(off.mean()),
    }


def _notes(
    labels: NDArray[np.float32], told: Told, true_wait: F64, fit: FitConfig
) -> tuple[str, ...]:
    """What else the first seed shows; `told` with the truth."""
    last, days = EDGES[-1] // DAY, ", ".join(str(horizon // DAY) for horizon in HORIZONS)
    errors = {
        name: [
            calibration_error(labels[known, column], probabilities[known, column])
            for column, known in enumerate(~np.isnan(labels.T))
        ]
        for name, probabilities in told.items()
    }
    by_horizon = (
        f"ECE of {name} within {days} days, first seed: "
        + ", ".join(f"{error:.4f}" for error in found)
        + "."
        for name, found in errors.items()
    )
    known = int((~np.isnan(labels[:, HORIZONS.index(JUDGED)])).sum())
    points = (
        f"{known} test points; hazards of {len(EDGES)} bins up to {last} days, none of which ends "
        "at 3 days."
    )
    penalty = (
        f"Penalty of the linear models: {fit.logistic_penalty:g}, the lowest loss of logistic on "
        "the stopping slice of the first seed."
    )
    waits = (
        f"wait_error_days is the mean distance of the expected wait, at most {last} days, from "
        f"that of the true hazards, {true_wait.mean() / DAY:.2f} days on average; wait_bias_days "
        "is the mean difference."
    )
    return points, penalty, *by_horizon, waits


def _kind(name: str) -> Kind:
    return "baseline" if name in {"base_rate", "bg_nbd"} else "network"
