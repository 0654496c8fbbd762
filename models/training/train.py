"""Event log -> a judged, calibrated model ready to be published, or the reason why not.

Three slices of time (`models/data/split.py`): the networks are fitted on the first, stopped and
calibrated by different users of the second, and judged once on the third. The architecture with the
lower log-loss there is chosen, but for a logistic regression that it does not surely beat; then it
must pass the gate (`models/training/gate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np
import torch

from models.data.dataset import F32, DatasetConfig, Examples, Index
from models.data.split import TRAIN, VALIDATION
from models.evaluate import F64
from models.fitting.batches import Batches
from models.fitting.config import RefreshConfig
from models.fitting.fit import FitConfig, Report
from models.log.eventlog import LogParts
from models.log.names import Catalogue
from models.monitoring.drift import Reference
from models.networks.base import Network
from models.ranking.train import Earlier, RankConfig, Rankings, rank_next
from models.serving.artifact import Golden, restated, script_bytes, sha256
from models.serving.manifest import Manifest
from models.serving.rankings import Ranked, files_of
from models.serving.scorer import Scorer, make_golden, manifest_of, network_spec
from models.targets import Target, judged
from models.training.candidates import (
    Candidate,
    Course,
    Lesson,
    fit_candidates,
    labelled,
    refreshed,
)
from models.training.card import Card, card_of
from models.training.gate import LOGISTIC, GateRules, Slice, judge
from models.training.gather import Gathered, gather
from models.training.rivals import baselines_of
from models.training.verdict import Verdict

CANDIDATES: Final = ("logistic", "gru")


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
    rank: RankConfig = field(default_factory=RankConfig)
    """What it ranks of what comes next."""


@dataclass(frozen=True)
class Trained:
    """A model that passed the gate, not yet on disk."""

    manifest: Manifest
    script: bytes
    golden: Golden
    card: Card
    rankings: Mapping[str, Ranked] = field(default_factory=dict)
    """What it ranks, by what it is."""

    def documents(self) -> dict[str, bytes]:
        """File name -> content of all that lies beside the script."""
        return self.card.documents() | files_of(self.rankings)


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
    names: Catalogue | None = None,
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
        names: of the codes in the log, for what is to be ranked.

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
        names=names,
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
    names: Catalogue | None = None,
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
        names: as for `train`.

    Raises:
        TrainingError: as `train`.
    """
    examples = gathered.examples
    with torch.random.fork_rng():
        torch.manual_seed(config.fit.seed)
        if lesson is None:
            fitted = fit_candidates(
                examples, targets, config.candidates, config.fit, config.hidden_size, course
            )
        else:
            fitted = [refreshed(examples, targets, config.fit, config.refresh, course, lesson)]
    baselines, rivals = baselines_of(examples, targets)
    best, verdict = _choose(fitted, examples, targets, rivals, champion, config.gate)
    verdict.require(best.architecture)
    baselines |= {c.architecture: c.figures for c in fitted if c is not best}
    losses = ", ".join(f"{c.architecture} {c.mean_log_loss(targets):.5f}" for c in fitted)
    # Of what is told of hazards and amounts no label comes back to be compared with.
    followed = [(k, t) for k, t in enumerate(targets) if t in judged(targets)]
    network = best.network
    ranked = _ranked(network, gathered, targets, config, course, lesson, names or {})
    script = script_bytes(network) if lesson is None else restated(lesson.script, network)
    manifest = manifest_of(
        best.network,
        version_of(created_at, best.architecture, script),
        best.architecture,
        history_length=config.dataset.history_length,
        targets=targets,
        reference_profile=_reference(examples),
        created_at=created_at,
        calibration={
            name: {"slope": platt.slope, "shift": platt.shift}
            for name, platt in best.calibration.items()
        },
        penalties=best.penalties,
        metrics=best.figures,
        baselines=baselines,
        window=gathered.window,
        cleaning=gathered.cleaning,
        choice=f"{best.architecture}: {_why(best, fitted, targets)} ({losses})",
        reference=Reference.of(
            examples.profile[examples.of_slice(TRAIN)],
            {t.name: best.probabilities[:, k] for k, t in followed},
            {t.name: _labels(examples, k) for k, t in followed},
        ),
        rankings=ranked.told,
    )
    card = card_of(manifest, verdict, config.gate, ranked.rankings)
    golden = make_golden(script, manifest, ranked.ranked)
    return Trained(manifest, script, golden, card, ranked.ranked)


def _ranked(
    network: Network,
    gathered: Gathered,
    targets: tuple[Target, ...],
    config: TrainConfig,
    course: Course,
    lesson: Lesson | None,
    names: Catalogue,
) -> Rankings:
    """What the network ranks; of several processes the one that publishes sees to it."""
    if not (config.rank.whats and course.group.leads):
        return Rankings()
    earlier = None
    if lesson is not None:
        points = np.concatenate([lesson.fresh, lesson.memory])
        earlier = Earlier(lesson.heads, points, config.refresh)
    return rank_next(
        network,
        network_spec(targets),
        gathered.examples,
        gathered.split,
        config.dataset.history_length,
        names,
        config.rank,
        config.fit.seed,
        course.report,
        earlier,
    )


def _choose(
    fitted: list[Candidate],
    examples: Examples,
    targets: tuple[Target, ...],
    rivals: dict[str, F64],
    champion: Scorer | None,
    rules: GateRules,
) -> tuple[Candidate, Verdict]:
    """The candidate of the lowest log-loss, or the logistic one if it is not surely beaten."""
    points = examples.of_slice(VALIDATION)
    later = Slice(
        targets,
        examples.labels[points],
        examples.profile[points],
        examples.user[points],
        examples.at_event[points],
    )
    serving = None
    if champion is not None and champion.targets == targets:
        serving = champion.version, probabilities_of(champion, examples, points)
    best = min(fitted, key=lambda candidate: candidate.mean_log_loss(targets))
    logistic = next((c for c in fitted if c.architecture == LOGISTIC), best)
    if best is not logistic:
        others = rivals | {LOGISTIC: logistic.probabilities}
        verdict = judge(later, best.probabilities, others, rules, serving)
        if all(check.passed for check in verdict.checks if check.name.endswith(LOGISTIC)):
            return best, verdict
    return logistic, judge(later, logistic.probabilities, rivals, rules, serving)


def _why(best: Candidate, fitted: list[Candidate], targets: tuple[Target, ...]) -> str:
    lowest = min(fitted, key=lambda candidate: candidate.mean_log_loss(targets))
    if best is lowest:
        return "lowest mean log-loss on the validation slice"
    return f"not surely beaten by {lowest.architecture} on the validation slice"


def probabilities_of(scorer: Scorer, examples: Examples, points: Index) -> F64:
    """What a model says of `points`, [J,K]."""
    place = np.full(len(examples), -1, np.intp)
    place[points] = np.arange(len(points))
    out = np.empty((len(points), len(scorer.targets)))
    for batch in Batches(examples, points, 256, torch.device("cpu")):
        start = np.zeros((len(batch.length), scorer.hidden_size), np.float32)
        states = scorer.scan(start, batch.ids.numpy(), batch.nums.numpy(), batch.length.numpy())
        hidden = states[batch.row.numpy(), batch.position.numpy()]
        out[place[batch.points.numpy()]] = scorer.probabilities(hidden, batch.profile.numpy())
    return out


def _labels(examples: Examples, column: int) -> F32:
    labels: F32 = examples.labels[labelled(examples, VALIDATION, column), column]
    return labels


def _reference(examples: Examples) -> tuple[float, ...]:
    means = examples.profile[examples.of_slice(TRAIN)].mean(axis=0, dtype=np.float64)
    return tuple(float(mean) for mean in means)


def version_of(created_at: int, architecture: str, script: bytes) -> str:
    """Name of a model: when it was made, of what kind it is and the digest of its script."""
    moment = datetime.fromtimestamp(created_at / 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{architecture}-{sha256(script)[:8]}"


def describe(manifest: Manifest) -> bytes:
    """The manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2)
