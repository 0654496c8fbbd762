"""Intent in a session at every event: the product's networks beside baselines and a plain GRU.

Everything learns from the first slice of time, stops and chooses by one half of the users of the
second, is calibrated by the other half, and is evaluated once on the events of the third. The
product's networks come from the trainer's own candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.dataset import Index
from models.data.split import CALIBRATION, STOPPING, TRAIN, VALIDATION
from models.evaluate import roc_auc
from models.evaluation.contest import ContestConfig, Say, judged
from models.evaluation.results import F64, Kind, ModelResult, Slice, TaskResult
from models.evaluation.sessions.baselines import Part, Parts, baselines
from models.evaluation.sessions.bootstrap import auc_difference
from models.evaluation.sessions.latency import scoring_times
from models.evaluation.sessions.plain_gru import PlainFit, fit_plain_gru
from models.evaluation.sessions.points import I64, SessionPoints
from models.fitting.calibrate import fit_platt
from models.fitting.config import IN_SESSION_PASSES, IN_SESSION_WEIGHT
from models.fitting.fit import FitConfig
from models.networks import HIDDEN_SIZE
from models.training.candidates import Course, fit_candidates

BOOSTING: Final = "session_boosting"
PLAIN: Final = "plain_gru"
NETWORKS: Final = ("logistic", "gru")
"""Of the product's architectures those that take part: the default one, and what it must beat."""
POSITIONS: Final = ((1, 1), (2, 3), (4, 7), (8, 15), (16, None))
"""Places in the session, from and to, that are evaluated apart."""
LEAST_SLICE: Final = 200
FIT: Final = FitConfig(
    epochs=8,
    patience=4,
    min_gain=0.0,
    pretrain_epochs=IN_SESSION_PASSES,
    next_action_weight=IN_SESSION_WEIGHT,
    windows=16,
    learning_rate=4e-3,
    weight_decay=0.01,
)
"""Smaller batches than the default: a session has few labels, and steps are what is short.
Pre-training and auxiliary loss are those of the trainer where it has targets of a session."""


@dataclass(frozen=True)
class SessionTask:
    """A log and what is predicted at its events."""

    task: str
    title: str
    points: SessionPoints
    truth: F64 | None = None
    """[Q] true probability of the first target at each example, where it is known."""
    notes: tuple[str, ...] = field(default=())


Scores = dict[str, F64]
"""Model -> probabilities [Q,K] of all examples; of those that are not evaluated any number."""


def run_session_task(
    task: SessionTask,
    config: ContestConfig,
    say: Say,
    *,
    fit: FitConfig = FIT,
    plain: PlainFit | None = None,
) -> list[TaskResult]:
    """Fit all models seed by seed and evaluate them: one result per target.

    Args:
        task: see there.
        config: seeds, and which architectures take part.
        say: takes one line per step.
        fit: how the product's networks are fitted.
        plain: how the plain GRU is fitted.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    networks = tuple(name for name in config.networks if name in NETWORKS)
    rounds: list[Scores] = []
    latency: tuple[str, ...] = ()
    for seed in config.seeds:
        scores = _baselines(task.points, seed) | {PLAIN: _plain(task.points, seed, plain)}
        found, network_notes = _product(task.points, networks, replace(fit, seed=seed))
        rounds.append(scores | found)
        latency = latency or network_notes
        say(f"{task.task}: seed {seed} done")
    return [
        _result(task, column, networks, rounds, latency)
        for column in range(len(task.points.targets))
    ]


def _product(
    points: SessionPoints, networks: tuple[str, ...], fit: FitConfig
) -> tuple[Scores, tuple[str, ...]]:
    """The calibrated probabilities of the trainer's candidates, and how long a score takes."""
    examples = points.examples
    if not networks:
        return {}, ()
    with torch.random.fork_rng():
        torch.manual_seed(fit.seed)
        fitted = fit_candidates(examples, points.targets, networks, fit, HIDDEN_SIZE, Course("cpu"))
    found: Scores = {}
    for candidate in fitted:
        predicted = np.full((len(examples), len(points.targets)), np.nan)
        predicted[examples.of_slice(VALIDATION)] = candidate.probabilities
        found[candidate.architecture] = predicted
    last = fitted[-1]
    return found, scoring_times(last.network, last.architecture, points.targets)


def _plain(points: SessionPoints, seed: int, config: PlainFit | None) -> F64:
    examples = points.examples
    logits_QK = fit_plain_gru(
        points.events,
        points.labels_at_events(),
        points.at_events(examples.of_slice(TRAIN)),
        points.at_events(examples.of_slice(STOPPING)),
        seed,
        config,
    )[points.place]
    out = np.empty(logits_QK.shape)
    for column in range(logits_QK.shape[1]):
        held_out = _known(points, CALIBRATION, column)
        platt = fit_platt(logits_QK[held_out, column], examples.labels[held_out, column])
        out[:, column] = platt.probabilities(logits_QK[:, column])
    return out


def _baselines(points: SessionPoints, seed: int) -> Scores:
    found: Scores = {}
    for column in range(len(points.targets)):
        asked = points.evaluated
        parts = Parts(
            _part(points, TRAIN, column),
            _part(points, STOPPING, column),
            _part(points, CALIBRATION, column),
            points.features[points.place[asked]],
        )
        predicted = baselines(parts, seed)
        for name, probabilities in predicted.items():
            empty = np.full((len(points.examples), len(points.targets)), np.nan)
            found.setdefault(name, empty)[asked, column] = probabilities
    return found


def _part(points: SessionPoints, which: int, column: int) -> Part:
    chosen = _known(points, which, column)
    labels = points.examples.labels[chosen, column].astype(np.float64)
    return Part(points.features[points.place[chosen]], labels)


def _known(points: SessionPoints, which: int, column: int) -> Index:
    chosen = points.examples.of_slice(which)
    found: Index = chosen[~np.isnan(points.examples.labels[chosen, column])]
    return found


def _result(
    task: SessionTask,
    column: int,
    networks: tuple[str, ...],
    rounds: list[Scores],
    latency: tuple[str, ...],
) -> TaskResult:
    points, target = task.points, task.points.targets[column]
    test = points.evaluated
    test = test[~np.isnan(points.examples.labels[test, column])]
    labels = points.examples.labels[test, column]
    predicted = {name: np.stack([one[name][test, column] for one in rounds]) for name in rounds[0]}
    models = {
        name: ModelResult(tuple(judged(labels, one) for one in scores), _kind(name, networks))
        for name, scores in predicted.items()
    }
    result = TaskResult(
        task=f"{task.task}_{target.name}",
        title=f"{task.title}: {target.name}",
        criterion="auroc",
        higher_is_better=True,
        models=models,
        labels=labels.astype(np.float64),
        probabilities={name: scores[0] for name, scores in predicted.items()},
        where="at every event of a session",
    )
    users = points.examples.user[test]
    notes = [
        f"{len(test)} events of {len(np.unique(users))} users, base rate {labels.mean():.4f}.",
        *task.notes,
    ]
    # Named beforehand: the best one on the test examples would be chosen by what it is judged on.
    ours = networks[-1] if networks else ""
    position = points.position[points.place[test]]
    against = ""
    if ours:
        for other in (BOOSTING, "session_logistic", PLAIN):
            difference = auc_difference(labels, predicted[ours], predicted[other], users)
            notes.append(f"AUROC of {ours} less that of {other}: {difference}, over users.")
            if other == BOOSTING:
                against = f"{ours} less {other}: {difference}"
                against += "" if difference.mean > 0 else f"; **{other}, a baseline, wins**"
        notes.append(
            f"By position: {_by_position(labels, predicted, position, (ours, BOOSTING, PLAIN))}."
        )
    reference = {}
    if task.truth is not None and column == 0:
        true = task.truth[test]
        reference["truth"] = ModelResult((judged(labels, true),), "truth")
        if ours:
            truths = np.broadcast_to(true, predicted[ours].shape)
            gap = auc_difference(labels, predicted[ours], truths, users)
            notes.append(f"AUROC of {ours} less that of the true probability: {gap}, over users.")
    slices = tuple(
        Slice(name, int(inside.sum()), judged(labels[inside], predicted[result.default][0][inside]))
        for name, inside in _positions(position)
        if inside.sum() >= LEAST_SLICE
    )
    return replace(
        result, notes=(*notes, *latency), slices=slices, reference=reference, against=against
    )


def _positions(position: I64) -> list[tuple[str, NDArray[np.bool_]]]:
    return [
        (
            f"event {low}" if low == high else f"event {low}-{high}" if high else f"event {low}+",
            (position >= low) & (position <= (high or position.max())),
        )
        for low, high in POSITIONS
    ]


def _by_position(
    labels: F64, predicted: dict[str, F64], position: I64, names: tuple[str, ...]
) -> str:
    """AUROC of some models at each part of the session, mean over the seeds."""
    parts = []
    for where, inside in _positions(position):
        if inside.sum() < LEAST_SLICE or not 0 < labels[inside].mean() < 1:
            continue
        found = []
        for name in names:
            seeds = [roc_auc(labels[inside], one[inside]) for one in predicted[name]]
            found.append(f"{name} {np.mean(seeds):.4f}")
        parts.append(f"{where}: {', '.join(found)}")
    return "; ".join(parts)


def _kind(name: str, networks: tuple[str, ...]) -> Kind:
    if name in networks:
        return "network"
    return "model" if name == PLAIN else "baseline"
