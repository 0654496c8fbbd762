"""Candidates: networks fitted, or taught further, and calibrated, with their figures.

They are fitted on the first slice of time, stopped and calibrated by different users of the second,
and measured on the third.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from models.data.dataset import F32, Examples, Index
from models.data.spend import figures_of
from models.data.split import CALIBRATION, STOPPING, TRAIN, VALIDATION
from models.devices import pick_device
from models.evaluate import F64
from models.fitting.batches import Batches
from models.fitting.calibrate import SLOPE_POINTS, Platt, fit_platt
from models.fitting.checkpoint import Checkpoint
from models.fitting.config import RefreshConfig
from models.fitting.distributed import SINGLE, Group
from models.fitting.fit import FitConfig, Report, fit_sequences, predict_logits
from models.fitting.linear import Penalties, fit_logistic
from models.fitting.recipe import Fitted, Sample, aged, fit_network
from models.fitting.sampling import sample_negatives
from models.networks import ARCHITECTURES
from models.networks.base import Network
from models.networks.next_head import NextHead
from models.networks.sequence import SequenceNetwork
from models.populations import user_weights
from models.serving.manifest import SelfSupervision
from models.serving.scorer import network_spec
from models.targets import Target, questions

MIN_STOPPING: Final = 2048
"""Points that say when a refresh stops, at least."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Course:
    """How fits are run; what comes out does not depend on it."""

    device: str = "auto"
    report: Report | None = None
    """Called after every epoch."""
    group: Group = SINGLE
    """The processes that fit together."""
    checkpoints: Path | None = None
    """Folder in which fits are kept while they run."""
    resume: bool = False
    """Go on with the fits that are kept there."""
    attempt: int = 0
    """How often the fits were begun with fewer targets; each has files of its own."""

    def checkpoint(self, architecture: str, which: str = "fit") -> Checkpoint | None:
        """Where the fit of an architecture is kept, or its "refit"."""
        if self.checkpoints is None:
            return None
        again = f".{self.attempt}" if self.attempt else ""
        return Checkpoint(self.checkpoints / f"{architecture}{again}.{which}", resume=self.resume)

    def clear(self) -> None:
        """Remove what was kept: its fits are done."""
        if self.checkpoints is None:
            return
        for architecture in ARCHITECTURES:
            for kept in self.checkpoints.glob(f"{architecture}.*fit"):
                kept.unlink(missing_ok=True)


@dataclass(frozen=True)
class Lesson:
    """A published model and what it is to learn."""

    architecture: str
    network: Network
    """With the published weights; they are changed."""
    script: bytes
    """The published file: the code stays what it is."""
    fresh: Index
    """Points that it has not learnt from."""
    memory: Index
    """Points that it is reminded of."""
    heads: Mapping[str, NextHead] = field(default_factory=dict)
    """What ranks, by what it ranks; they are changed too."""
    self_supervision: SelfSupervision = field(default_factory=SelfSupervision)
    """What the published model has learnt without labels; a refresh adds nothing to it."""


@dataclass(frozen=True)
class Candidate:
    """A network that may be published."""

    architecture: str
    network: Network
    calibration: dict[str, Platt]
    figures: Figures
    """Of the validation slice, "target.metric"."""
    probabilities: F64
    """[J,K] of the points of the validation slice."""
    penalties: dict[str, float] = field(default_factory=dict)
    """Target -> L2 penalty of the linear part; empty where the fit left that as it was."""
    epochs: int = 0
    """Passes over the points that the weights over sequences have learnt for."""

    def mean_log_loss(self, targets: tuple[Target, ...]) -> float:
        """Over what is asked, on the validation slice; the bins of a wait are one question."""
        sums: dict[str, float] = {}
        for question, target in zip(questions(targets), targets, strict=True):
            loss = self.figures[f"{target.name}.log_loss"]
            sums[question] = sums.get(question, 0.0) + loss
        return float(np.mean(list(sums.values())))


def fit_candidates(
    examples: Examples,
    targets: tuple[Target, ...],
    architectures: tuple[str, ...],
    config: FitConfig,
    hidden_size: int,
    course: Course,
) -> list[Candidate]:
    """One candidate of each architecture, fitted from the beginning."""
    spec = network_spec(targets)
    stopping = examples.of_slice(STOPPING)
    sample, fitted = Sample.of_training(examples, config), []
    blend: Fitted | None = None
    for architecture in architectures:
        found = fit_network(
            architecture,
            spec,
            sample,
            stopping,
            config,
            pick_device(course.device),
            hidden_size=hidden_size,
            report=course.report,
            group=course.group,
            checkpoint=course.checkpoint(architecture),
            start=blend,
        )
        blend = found if architecture == "blend" else blend
        fitted.append(measure(architecture, found, examples, targets))
    return fitted


def refreshed(
    examples: Examples,
    targets: tuple[Target, ...],
    config: FitConfig,
    refresh: RefreshConfig,
    course: Course,
    lesson: Lesson,
) -> Candidate:
    """The published model after new points and a reminder of old ones."""
    fit = replace(
        config,
        epochs=refresh.epochs,
        learning_rate=config.learning_rate * refresh.rate,
    )
    network = lesson.network
    one = torch.ones(network.targets)
    network.set_calibration(one, torch.zeros_like(one))
    chosen = np.concatenate([lesson.fresh, lesson.memory])
    stopping = at_most(examples.of_slice(STOPPING), max(len(chosen), MIN_STOPPING), fit.seed)
    sampled, points, shift = sample_negatives(examples, chosen, fit.negatives, fit.seed)
    penalties: Penalties = ()
    if isinstance(network, SequenceNetwork):
        fit_sequences(
            network,
            sampled,
            points,
            stopping,
            fit,
            pick_device(course.device),
            lesson.architecture,
            course.report,
            shift=shift,
            group=course.group,
            warm=True,
        )
    else:
        # A convex problem: its solution on all points is near, and cheap from here.
        train, later = examples.of_slice(TRAIN), examples.of_slice(STOPPING)
        older = aged(examples, train, config.oldest_weight)
        penalties = fit_logistic(network, older, train, config, stopping=later, warm=True)
    return measure(lesson.architecture, Fitted(network, penalties), examples, targets)


def at_most(points: Index, most: int, seed: int) -> Index:
    """Draw at most so many of the points; they stay in order."""
    if len(points) <= most:
        return points
    drawn: Index = np.random.default_rng(seed).choice(points, most, replace=False)
    return np.sort(drawn)


def measure(
    architecture: str, fitted: Fitted, examples: Examples, targets: tuple[Target, ...]
) -> Candidate:
    """Calibrate on the calibration slice, measure on the validation slice."""
    network, cpu = fitted.network, torch.device("cpu")
    points = np.concatenate([examples.of_slice(CALIBRATION), examples.of_slice(VALIDATION)])
    logits = predict_logits(network, Batches(examples, points, 256, cpu), len(examples))
    calibration = _platt_scaled(network, logits, examples, targets)
    found: Figures = {}
    later = examples.of_slice(VALIDATION)
    said = np.empty((len(later), len(targets)))
    for column, target in enumerate(targets):
        platt = calibration[target.name]
        judged = labelled(examples, VALIDATION, column)
        probabilities = platt.probabilities(logits[judged, column])
        found |= named(target, figures_of(target, examples.labels[judged, column], probabilities))
        said[:, column] = platt.probabilities(logits[later, column])
    chosen = dict(zip((target.name for target in targets), fitted.penalties, strict=False))
    return Candidate(architecture, network, calibration, found, said, chosen, fitted.epochs)


def calibrate(
    network: Network, examples: Examples, targets: tuple[Target, ...]
) -> dict[str, dict[str, float]]:
    """Calibrate a network on the calibration slice; target -> {slope, shift}, for the manifest."""
    points = examples.of_slice(CALIBRATION)
    batches = Batches(examples, points, 256, torch.device("cpu"))
    logits = predict_logits(network, batches, len(examples))
    return told(_platt_scaled(network, logits, examples, targets))


def _platt_scaled(
    network: Network, logits: F32, examples: Examples, targets: tuple[Target, ...]
) -> dict[str, Platt]:
    """Fit each target's Platt scaling on the calibration slice, and set the network to them.

    Each user counts once, as in the gate: a few busy users have most of the points, and a level
    that suits them is wrong for the others.

    Args:
        network: its calibration is set.
        logits: [Q,K] by example, without calibration.
        examples: Q, of which those of the calibration slice are used.
        targets: K.
    """
    platts = {}
    for column, target in enumerate(targets):
        known = labelled(examples, CALIBRATION, column)
        labels = examples.labels[known, column]
        weights = user_weights(examples.user[known])
        platts[target.name] = fit_platt(logits[known, column], labels, weights, SLOPE_POINTS)
    network.set_calibration(
        torch.tensor([platt.slope for platt in platts.values()]),
        torch.tensor([platt.shift for platt in platts.values()]),
    )
    return platts


def told(platts: dict[str, Platt]) -> dict[str, dict[str, float]]:
    """Calibrations as the manifest has them."""
    return {name: {"slope": platt.slope, "shift": platt.shift} for name, platt in platts.items()}


def labelled(examples: Examples, which: int, column: int) -> Index:
    """The points of a slice whose label of a target is known."""
    points = examples.of_slice(which)
    found: Index = points[~np.isnan(examples.labels[points, column])]
    return found


def named(target: Target, values: Figures) -> Figures:
    """The figures of a target by "target.metric"."""
    return {f"{target.name}.{metric}": value for metric, value in values.items()}
