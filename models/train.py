"""Event log -> a judged, calibrated model ready to be published, or the reason why not.

Three slices of time (`models/split.py`): the networks are fitted on the first, stopped and
calibrated on the second, and judged once on the third. The architecture with the lower log-loss
there is chosen, but for a logistic regression that it does not surely beat; then it must pass the
gate (`models/gate.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch

from models import features
from models.artifact import Golden, Manifest, restated, script_bytes, sha256
from models.batches import Batches
from models.calibrate import Platt, fit_platt
from models.card import Card, card_of
from models.dataset import F32, DatasetConfig, Examples, Index
from models.drift import Reference
from models.evaluate import F64, RecencyBaseline, figures
from models.eventlog import LogParts
from models.fit import FitConfig, Report, fit_blend, fit_logistic, fit_sequences, predict_logits
from models.gate import LOGISTIC, GateRules, Slice, Verdict, judge
from models.gather import Gathered, gather
from models.networks import ARCHITECTURES, build
from models.networks.base import Network
from models.networks.logistic import Logistic
from models.networks.rhythm import Rhythm
from models.networks.sequence import SequenceNetwork
from models.scorer import Scorer, make_golden, manifest_of, network_spec, pick_device
from models.split import CALIBRATION, TRAIN, VALIDATION
from models.targets import Target
from models.training.checkpoint import Checkpoint
from models.training.config import RefreshConfig
from models.training.distributed import SINGLE, Group
from models.training.sampling import sample_negatives

CANDIDATES: Final = ("logistic", "gru")
MIN_STOPPING: Final = 4096
"""Points that say when a refresh stops, at least."""
NEVER_BOUGHT: Final = 20.0
"""Stands for the silence of a user without a purchase: longer than log1p of any hours."""

Figures = dict[str, float]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that shapes a training run."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """How points are drawn."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How networks are fitted."""
    candidates: tuple[str, ...] = CANDIDATES
    """Architectures that compete, see `models.networks`."""
    hidden_size: int = 64
    """Width of the recurrent state; the user record must have room for it."""
    drop_late: bool = True
    """Leave out events that serving sent to the late topic; False for files in no order."""
    gate: GateRules = field(default_factory=GateRules)
    """What a model must show before it is published."""
    refresh: RefreshConfig = field(default_factory=RefreshConfig)
    """How a published model goes on learning."""


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

    def checkpoint(self, architecture: str) -> Checkpoint | None:
        """Where the fit of an architecture is kept."""
        if self.checkpoints is None:
            return None
        return Checkpoint(self.checkpoints / f"{architecture}.fit", resume=self.resume)

    def clear(self) -> None:
        """Remove what was kept: its fits are done."""
        for architecture in ARCHITECTURES:
            kept = self.checkpoint(architecture)
            if kept is not None:
                kept.path.unlink(missing_ok=True)


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


@dataclass(frozen=True)
class Trained:
    """A model that passed the gate, not yet on disk."""

    manifest: Manifest
    script: bytes
    golden: Golden
    card: Card


@dataclass(frozen=True)
class _Candidate:
    architecture: str
    network: Network
    calibration: dict[str, Platt]
    figures: Figures
    """Of the validation slice, "target.metric"."""
    probabilities: F64
    """[J,K] of the points of the validation slice."""

    def mean_log_loss(self, targets: tuple[Target, ...]) -> float:
        return float(np.mean([self.figures[f"{t.name}.log_loss"] for t in targets]))


def train(
    log: LogParts,
    targets: tuple[Target, ...],
    config: TrainConfig,
    *,
    created_at: int,
    device: str = "auto",
    report: Report | None = None,
    invalid: dict[str, int] | None = None,
    course: Course | None = None,
    champion: Scorer | None = None,
) -> Trained:
    """Gather examples from a log, fit, calibrate, judge and choose.

    Args:
        log: events in order of arrival.
        targets: what to predict.
        config: see there.
        created_at: time of the run, ms since the epoch; part of the version's name.
        device: "auto", "cpu" or "cuda".
        report: called after every epoch.
        invalid: what the source refused, by reason.
        course: how the fits are run, in place of `device` and `report`.
        champion: the model that serves now; what is published is not worse.

    Raises:
        DatasetError: the log is empty, too short, or has one class only.
        CheckpointError: a fit cannot be kept, or not be resumed.
        TrainingError: the model did not pass the gate; names each check that failed.
    """
    gathered = gather(
        log, targets, config.dataset, drop_late=config.drop_late, now=created_at, invalid=invalid
    )
    return train_on(
        gathered,
        targets,
        config,
        created_at=created_at,
        course=course or Course(device, report),
        champion=champion,
    )


def train_on(
    gathered: Gathered,
    targets: tuple[Target, ...],
    config: TrainConfig,
    *,
    created_at: int,
    course: Course,
    lesson: Lesson | None = None,
    champion: Scorer | None = None,
) -> Trained:
    """Fit, calibrate, judge and choose on examples that are there.

    Args:
        gathered: the examples.
        targets: what to predict.
        config: see there.
        created_at: as for `train`.
        course: how the fits are run.
        lesson: a published model that goes on learning, in place of fits from the beginning.
        champion: as for `train`.

    Raises:
        TrainingError: as `train`.
    """
    examples = gathered.examples
    with torch.random.fork_rng():
        torch.manual_seed(config.fit.seed)
        if lesson is None:
            fitted = _fit_candidates(examples, targets, config, course)
        else:
            fitted = [_refresh(examples, targets, config, course, lesson)]
    baselines, rivals = _baselines(examples, targets)
    best, verdict = _choose(fitted, examples, targets, rivals, champion, config.gate)
    verdict.require(best.architecture)
    baselines |= {c.architecture: c.figures for c in fitted if c is not best}
    losses = ", ".join(f"{c.architecture} {c.mean_log_loss(targets):.5f}" for c in fitted)
    network = best.network
    script = script_bytes(network) if lesson is None else restated(lesson.script, network)
    manifest = manifest_of(
        best.network,
        _version(created_at, best.architecture, script),
        best.architecture,
        history_length=config.dataset.history_length,
        targets=targets,
        reference_profile=_reference(examples),
        created_at=created_at,
        calibration={
            name: {"slope": platt.slope, "shift": platt.shift}
            for name, platt in best.calibration.items()
        },
        metrics=best.figures,
        baselines=baselines,
        window=gathered.window,
        cleaning=gathered.cleaning,
        choice=f"{best.architecture}: {_why(best, fitted, targets)} ({losses})",
        reference=Reference.of(
            examples.profile[examples.of_slice(TRAIN)],
            {t.name: best.probabilities[:, k] for k, t in enumerate(targets)},
            {t.name: _labels(examples, k) for k, t in enumerate(targets)},
        ),
    )
    card = card_of(manifest, verdict, config.gate)
    return Trained(manifest, script, make_golden(script, manifest), card)


def _fit_candidates(
    examples: Examples, targets: tuple[Target, ...], config: TrainConfig, course: Course
) -> list[_Candidate]:
    spec = network_spec(targets)
    stopping = examples.of_slice(CALIBRATION)
    sampled, points, shift = sample_negatives(
        examples, examples.of_slice(TRAIN), config.fit.negatives, config.fit.seed
    )
    logistic = Logistic(spec)
    fit_logistic(logistic, sampled, points, config.fit, shift)
    fitted = []
    for architecture in config.candidates:
        network: Network = logistic
        if architecture == "blend":
            network = fit_blend(spec, sampled, points, config.fit, shift)
        elif architecture != "logistic":
            network = build(architecture, spec, config.hidden_size)
            if isinstance(network, SequenceNetwork):
                network.start_from(fit_blend(spec, sampled, points, config.fit, shift))
            fit_sequences(
                network,
                sampled,
                points,
                stopping,
                config.fit,
                pick_device(course.device),
                architecture,
                course.report,
                shift=shift,
                group=course.group,
                checkpoint=course.checkpoint(architecture),
            )
        fitted.append(_measure(architecture, network, examples, targets))
    return fitted


def _refresh(
    examples: Examples,
    targets: tuple[Target, ...],
    config: TrainConfig,
    course: Course,
    lesson: Lesson,
) -> _Candidate:
    """The published model after new points and a reminder of old ones."""
    fit = replace(
        config.fit,
        epochs=config.refresh.epochs,
        learning_rate=config.fit.learning_rate * config.refresh.rate,
    )
    network = lesson.network
    one = torch.ones(network.targets)
    network.set_calibration(one, torch.zeros_like(one))
    chosen = np.concatenate([lesson.fresh, lesson.memory])
    stopping = _some(examples.of_slice(CALIBRATION), max(2 * len(chosen), MIN_STOPPING), fit.seed)
    sampled, points, shift = sample_negatives(examples, chosen, fit.negatives, fit.seed)
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
        fit_logistic(network, examples, examples.of_slice(TRAIN), config.fit, warm=True)
    return _measure(lesson.architecture, network, examples, targets)


def _some(points: Index, most: int, seed: int) -> Index:
    """At most so many of the points."""
    if len(points) <= most:
        return points
    drawn: Index = np.random.default_rng(seed).choice(points, most, replace=False)
    return np.sort(drawn)


def _measure(
    architecture: str, network: Network, examples: Examples, targets: tuple[Target, ...]
) -> _Candidate:
    """Calibrate on the calibration slice, measure on the validation slice."""
    cpu = torch.device("cpu")
    points = np.concatenate([examples.of_slice(CALIBRATION), examples.of_slice(VALIDATION)])
    logits = predict_logits(network, Batches(examples, points, 256, cpu), len(examples))
    calibration: dict[str, Platt] = {}
    found: Figures = {}
    later = examples.of_slice(VALIDATION)
    said = np.empty((len(later), len(targets)))
    for column, target in enumerate(targets):
        fit_on = _known(examples, CALIBRATION, column)
        platt = fit_platt(logits[fit_on, column], examples.labels[fit_on, column])
        judged = _known(examples, VALIDATION, column)
        probabilities = platt.probabilities(logits[judged, column])
        found |= _named(target, figures(examples.labels[judged, column], probabilities))
        calibration[target.name] = platt
        said[:, column] = platt.probabilities(logits[later, column])
    platts = [calibration[target.name] for target in targets]
    network.set_calibration(
        torch.tensor([platt.slope for platt in platts]),
        torch.tensor([platt.shift for platt in platts]),
    )
    return _Candidate(architecture, network, calibration, found, said)


def _baselines(
    examples: Examples, targets: tuple[Target, ...]
) -> tuple[dict[str, Figures], dict[str, F64]]:
    """Baselines fitted on the training slice: figures and probabilities on the validation slice."""
    silence = _silence(examples)
    later = examples.of_slice(VALIDATION)
    rhythm = Rhythm(network_spec(targets))
    said: dict[str, F64] = {
        "base_rate": np.empty((len(later), len(targets))),
        "recency": np.empty((len(later), len(targets))),
        "rhythm": torch.sigmoid(
            rhythm.heads(rhythm.initial(len(later)), torch.from_numpy(examples.profile[later]))
        )
        .numpy()
        .astype(np.float64),
    }
    found: dict[str, Figures] = {name: {} for name in said}
    for column, target in enumerate(targets):
        fit_on = _known(examples, TRAIN, column)
        past, truth = examples.labels[fit_on, column], examples.labels[later, column]
        recency = RecencyBaseline.fit(silence[fit_on], past)
        said["base_rate"][:, column] = past.mean()
        said["recency"][:, column] = recency.predict(silence[later])
        known = ~np.isnan(truth)
        for name, probabilities in said.items():
            found[name] |= _named(target, figures(truth[known], probabilities[known, column]))
    return found, said


def _choose(
    fitted: list[_Candidate],
    examples: Examples,
    targets: tuple[Target, ...],
    rivals: dict[str, F64],
    champion: Scorer | None,
    rules: GateRules,
) -> tuple[_Candidate, Verdict]:
    """The candidate of the lowest log-loss, or the logistic one if it is not surely beaten."""
    points = examples.of_slice(VALIDATION)
    judged = Slice(
        targets, examples.labels[points], examples.profile[points], examples.user[points]
    )
    serving = None
    if champion is not None and champion.targets == targets:
        serving = champion.version, _served(champion, examples, points)
    best = min(fitted, key=lambda candidate: candidate.mean_log_loss(targets))
    logistic = next((c for c in fitted if c.architecture == LOGISTIC), best)
    if best is not logistic:
        others = rivals | {LOGISTIC: logistic.probabilities}
        verdict = judge(judged, best.probabilities, others, rules, serving)
        if all(check.passed for check in verdict.checks if check.name.endswith(LOGISTIC)):
            return best, verdict
    return logistic, judge(judged, logistic.probabilities, rivals, rules, serving)


def _why(best: _Candidate, fitted: list[_Candidate], targets: tuple[Target, ...]) -> str:
    lowest = min(fitted, key=lambda candidate: candidate.mean_log_loss(targets))
    if best is lowest:
        return "lowest mean log-loss on the validation slice"
    return f"not surely beaten by {lowest.architecture} on the validation slice"


def _served(champion: Scorer, examples: Examples, points: Index) -> F64:
    """What the champion says of `points`, [J,K]."""
    place = np.full(len(examples), -1, np.intp)
    place[points] = np.arange(len(points))
    out = np.empty((len(points), len(champion.targets)))
    for batch in Batches(examples, points, 256, torch.device("cpu")):
        start = np.zeros((len(batch.length), champion.hidden_size), np.float32)
        states = champion.scan(start, batch.ids.numpy(), batch.nums.numpy(), batch.length.numpy())
        hidden = states[batch.row.numpy(), batch.position.numpy()]
        out[place[batch.points.numpy()]] = champion.probabilities(hidden, batch.profile.numpy())
    return out


def _labels(examples: Examples, column: int) -> F32:
    labels: F32 = examples.labels[_known(examples, VALIDATION, column), column]
    return labels


def _known(examples: Examples, which: int, column: int) -> Index:
    points = examples.of_slice(which)
    known: Index = points[~np.isnan(examples.labels[points, column])]
    return known


def _silence(examples: Examples) -> F32:
    names = features.PROFILE_FEATURES
    since = examples.profile[:, names.index("log_since_purchase_hours")]
    bought = examples.profile[:, names.index("has_purchase")] > 0
    return np.where(bought, since, np.float32(NEVER_BOUGHT))


def _reference(examples: Examples) -> tuple[float, ...]:
    means = examples.profile[examples.of_slice(TRAIN)].mean(axis=0, dtype=np.float64)
    return tuple(float(mean) for mean in means)


def _named(target: Target, values: Figures) -> Figures:
    return {f"{target.name}.{metric}": value for metric, value in values.items()}


def _version(created_at: int, architecture: str, script: bytes) -> str:
    moment = datetime.fromtimestamp(created_at / 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{architecture}-{sha256(script)[:8]}"


def describe(manifest: Manifest) -> bytes:
    """The manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2)
