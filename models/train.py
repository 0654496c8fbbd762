"""Event log -> a judged, calibrated model ready to be published, or the reason why not.

Three slices of time (`models/split.py`): the networks are fitted on the first, stopped and
calibrated on the second, and judged once on the third. The architecture with the lower log-loss
there is chosen; it must beat the base rate and the recency baseline on every target.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np
import torch

from models import features
from models.artifact import Golden, Manifest, script_bytes, sha256
from models.batches import Batches
from models.calibrate import Platt, fit_platt
from models.dataset import F32, DatasetConfig, Examples, Index
from models.errors import TrainingError
from models.evaluate import RecencyBaseline, figures
from models.eventlog import LogParts
from models.fit import FitConfig, Report, fit_blend, fit_logistic, fit_sequences, predict_logits
from models.gather import gather
from models.networks import build
from models.networks.base import Network
from models.networks.logistic import Logistic
from models.networks.rhythm import Rhythm
from models.networks.sequence import SequenceNetwork
from models.scorer import make_golden, manifest_of, network_spec, pick_device
from models.split import CALIBRATION, TRAIN, VALIDATION
from models.targets import Target

CANDIDATES: Final = ("logistic", "gru")
GATES: Final = ("base_rate", "recency")
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


@dataclass(frozen=True)
class Trained:
    """A model that passed the gate, not yet on disk."""

    manifest: Manifest
    script: bytes
    golden: Golden


@dataclass(frozen=True)
class _Candidate:
    architecture: str
    network: Network
    calibration: dict[str, Platt]
    figures: Figures
    """Of the validation slice, "target.metric"."""

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
) -> Trained:
    """Fit, calibrate, judge and choose.

    Args:
        log: events in order of arrival.
        targets: what to predict.
        config: see there.
        created_at: time of the run, ms since the epoch; part of the version's name.
        device: "auto", "cpu" or "cuda".
        report: called after every epoch.
        invalid: what the source refused, by reason.

    Raises:
        DatasetError: the log is empty, too short, or has one class only.
        TrainingError: the model is no better than the baselines.
    """
    draw = config.dataset
    gathered = gather(
        log, targets, draw, drop_late=config.drop_late, now=created_at, invalid=invalid
    )
    examples = gathered.examples
    with torch.random.fork_rng():
        torch.manual_seed(config.fit.seed)
        fitted = _fit_candidates(examples, targets, config, pick_device(device), report)
    baselines = _baselines(examples, targets)
    best = min(fitted, key=lambda candidate: candidate.mean_log_loss(targets))
    _gate(best, baselines, targets)
    baselines |= {c.architecture: c.figures for c in fitted if c is not best}
    losses = ", ".join(f"{c.architecture} {c.mean_log_loss(targets):.5f}" for c in fitted)
    script = script_bytes(best.network)
    manifest = manifest_of(
        best.network,
        _version(created_at, best.architecture, script),
        best.architecture,
        history_length=draw.history_length,
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
        choice=f"{best.architecture}: lowest mean log-loss on the validation slice ({losses})",
    )
    return Trained(manifest, script, make_golden(script, manifest))


def _fit_candidates(
    examples: Examples,
    targets: tuple[Target, ...],
    config: TrainConfig,
    device: torch.device,
    report: Report | None,
) -> list[_Candidate]:
    spec = network_spec(targets)
    points, stopping = examples.of_slice(TRAIN), examples.of_slice(CALIBRATION)
    logistic = Logistic(spec)
    fit_logistic(logistic, examples, points, config.fit)
    fitted = []
    for architecture in config.candidates:
        network: Network = logistic
        if architecture == "blend":
            network = fit_blend(spec, examples, points, config.fit)
        elif architecture != "logistic":
            network = build(architecture, spec, config.hidden_size)
            if isinstance(network, SequenceNetwork):
                network.start_from(fit_blend(spec, examples, points, config.fit))
            fit_sequences(
                network, examples, points, stopping, config.fit, device, architecture, report
            )
        fitted.append(_judge(architecture, network, examples, targets))
    return fitted


def _judge(
    architecture: str, network: Network, examples: Examples, targets: tuple[Target, ...]
) -> _Candidate:
    """Calibrate on the calibration slice, measure on the validation slice."""
    cpu = torch.device("cpu")
    points = np.concatenate([examples.of_slice(CALIBRATION), examples.of_slice(VALIDATION)])
    logits = predict_logits(network, Batches(examples, points, 256, cpu), len(examples))
    calibration: dict[str, Platt] = {}
    found: Figures = {}
    for column, target in enumerate(targets):
        fit_on = _known(examples, CALIBRATION, column)
        platt = fit_platt(logits[fit_on, column], examples.labels[fit_on, column])
        judged = _known(examples, VALIDATION, column)
        probabilities = platt.probabilities(logits[judged, column])
        found |= _named(target, figures(examples.labels[judged, column], probabilities))
        calibration[target.name] = platt
    platts = [calibration[target.name] for target in targets]
    network.set_calibration(
        torch.tensor([platt.slope for platt in platts]),
        torch.tensor([platt.shift for platt in platts]),
    )
    return _Candidate(architecture, network, calibration, found)


def _baselines(examples: Examples, targets: tuple[Target, ...]) -> dict[str, Figures]:
    """Figures of the baselines on the validation slice, fitted on the training slice."""
    silence = _silence(examples)
    rhythm = Rhythm(network_spec(targets))
    judged_rhythm = torch.sigmoid(
        rhythm.heads(rhythm.initial(len(examples)), torch.from_numpy(examples.profile))
    ).numpy()
    found: dict[str, Figures] = {"base_rate": {}, "recency": {}, "rhythm": {}}
    for column, target in enumerate(targets):
        fit_on, judged = _known(examples, TRAIN, column), _known(examples, VALIDATION, column)
        past, truth = examples.labels[fit_on, column], examples.labels[judged, column]
        recency = RecencyBaseline.fit(silence[fit_on], past)
        for name, probabilities in (
            ("base_rate", np.full(len(judged), past.mean())),
            ("recency", recency.predict(silence[judged])),
            ("rhythm", judged_rhythm[judged, column]),
        ):
            found[name] |= _named(target, figures(truth, probabilities))
    return found


def _gate(best: _Candidate, baselines: dict[str, Figures], targets: tuple[Target, ...]) -> None:
    for target in targets:
        key = f"{target.name}.log_loss"
        for name in GATES:
            if not best.figures[key] < baselines[name][key]:
                raise TrainingError(
                    f"nothing published: {best.architecture} is no better than the {name} baseline "
                    f"for {target.name} (log-loss {best.figures[key]:.4f} against "
                    f"{baselines[name][key]:.4f} on the validation slice); collect more events or "
                    "choose another horizon"
                )


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
