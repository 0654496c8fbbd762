"""Event log -> a judged, calibrated model ready to be published, or the reason why not.

Three slices of time (`models/data/split.py`): the networks are fitted on the first, stopped and
calibrated by different users of the second, and judged once on the third. The architecture with the
lower log-loss there is chosen, but for a logistic regression that it does not surely beat; then it
must pass the gate (`models/training/gate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np
import torch
from msgspec.structs import replace as replace_ranking

from models.data.dataset import F32, DatasetConfig, Examples
from models.data.split import TRAIN, VALIDATION
from models.errors import TrainingError
from models.evaluate import F64
from models.fitting.config import RefreshConfig
from models.fitting.fit import FitConfig, Report, predict_probabilities
from models.log.eventlog import LogParts
from models.log.names import Catalogue
from models.monitoring.drift import Reference
from models.networks import convex
from models.networks.base import Network
from models.ranking.train import Earlier, RankConfig, Rankings, rank_next
from models.serving.artifact import GATED_FILE, Golden, restated, script_bytes, sha256
from models.serving.manifest import Manifest, SelfSupervision
from models.serving.rankings import Ranked, files_of
from models.serving.scorer import Scorer, make_golden, manifest_of, network_spec
from models.targets import Target, judged, questions, setting_of
from models.training.budget import AlertRules
from models.training.candidates import (
    Course,
    Lesson,
    fit_candidates,
    labelled,
    refreshed,
    told,
)
from models.training.card import Card, card_of
from models.training.choosing import choose, why
from models.training.gate import GateRules
from models.training.gather import Gathered, gather, without
from models.training.refit import refit, span_of
from models.training.rivals import baselines_of
from models.training.thresholds import learnt_threshold

CANDIDATES: Final = ("blend", "gru")


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
    target_precision: float | None = None
    """Share of the raised alerts that is to be right; None: no threshold is learnt for it."""
    budget: AlertRules | None = None
    """How many alerts a day are to be raised; None: no threshold is learnt for it."""
    refit: bool = True
    """Serve a fit to all labels that are complete, once the gate has judged the fit to the oldest;
    False: serve what was judged."""


@dataclass(frozen=True)
class Trained:
    """A model that passed the gate, not yet on disk."""

    manifest: Manifest
    script: bytes
    golden: Golden
    card: Card
    rankings: Mapping[str, Ranked] = field(default_factory=dict)
    """What it ranks, by what it is."""
    gated: bytes | None = None
    """The script that the gate judged, where another fit is served."""

    def documents(self) -> dict[str, bytes]:
        """File name -> content of all that lies beside the script."""
        gated = {} if self.gated is None else {GATED_FILE: self.gated}
        return self.card.documents() | files_of(self.rankings) | gated


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
        config,
        created_at=created_at,
        course=course or Course(device, report),
        champion=champion,
        names=names,
    )


def train_on(
    gathered: Gathered,
    config: TrainConfig,
    *,
    created_at: int,
    course: Course,
    lesson: Lesson | None = None,
    champion: Scorer | None = None,
    names: Catalogue | None = None,
) -> Trained:
    """Fit, calibrate, judge and choose on examples that are there.

    A target that fails checks of its own is left out, and the others are fitted without it.

    Args:
        gathered: the examples.
        config: see there.
        created_at: as for `train`.
        course: how the fits are run.
        lesson: a published model that goes on learning, in place of fits from the beginning.
        champion: as for `train`.
        names: as for `train`.

    Raises:
        TrainingError: as `train`.
    """
    _keeps_targets(champion, gathered)
    examples, targets = gathered.examples, gathered.targets
    with torch.random.fork_rng():
        torch.manual_seed(config.fit.seed)
        if lesson is None:
            fitted = fit_candidates(
                examples, targets, config.candidates, config.fit, config.hidden_size, course
            )
        else:
            fitted = [refreshed(examples, targets, config.fit, config.refresh, course, lesson)]
    baselines, rivals = baselines_of(examples, targets)
    best, verdict = choose(fitted, examples, targets, rivals, champion, config.gate)
    failing = verdict.failing
    kept = without(targets, failing)
    if failing and kept and lesson is None:
        return train_on(
            gathered.only(kept, _not_passed(failing, targets)),
            config,
            created_at=created_at,
            course=replace(course, attempt=course.attempt + 1),
            champion=champion,
            names=names,
        )
    verdict.require(best.architecture, tuple(gathered.left_out.values()))
    baselines |= {c.architecture: c.figures for c in fitted if c is not best}
    losses = ", ".join(f"{c.architecture} {c.mean_log_loss(targets):.5f}" for c in fitted)
    # Of what is told of hazards and amounts no label comes back to be compared with.
    followed = [(k, t) for k, t in enumerate(targets) if t in judged(targets)]
    network, calibration, seen, span = best.network, told(best.calibration), examples, None
    ranked = _ranked(network, gathered, targets, config, course, lesson, names or {})
    script = gated = script_bytes(network) if lesson is None else restated(lesson.script, network)
    if config.refit:
        with torch.random.fork_rng():
            torch.manual_seed(config.fit.seed)
            served = refit(
                best,
                examples,
                targets,
                gathered.split,
                config.fit,
                config.hidden_size,
                course,
                lesson,
                config.refresh,
            )
        network, calibration, seen, span = (
            served.network,
            served.calibration,
            served.examples,
            served.span,
        )
        script = script_bytes(network) if lesson is None else restated(lesson.script, network)
        ranked = _carried_over(ranked, network, gathered, targets, config, course, names or {})
    manifest = manifest_of(
        network,
        version_of(created_at, best.architecture, script),
        best.architecture,
        history_length=config.dataset.history_length,
        targets=targets,
        reference_profile=_reference(seen),
        created_at=created_at,
        calibration=calibration,
        penalties=best.penalties,
        metrics=best.figures,
        baselines=baselines,
        window=gathered.window,
        gated=span_of(examples),
        served=span,
        cleaning=gathered.cleaning,
        choice=f"{best.architecture}: {why(best, fitted, targets)} ({losses})",
        reference=Reference.of(
            seen.profile[seen.of_slice(TRAIN)],
            {t.name: _told(network, examples, k) for k, t in followed},
            {t.name: _labels(examples, k) for k, t in followed},
        ),
        rankings=ranked.told,
        left_out=gathered.left_out,
        self_supervision=_self_supervision(best.architecture, config.fit, lesson),
        raise_at=learnt_threshold(
            network, gathered, config.target_precision, config.budget, refit=config.refit
        ),
    )
    card = card_of(manifest, verdict, config.gate, ranked.rankings)
    golden = make_golden(script, manifest, ranked.ranked)
    twin = gated if config.refit else None
    return Trained(manifest, script, golden, card, ranked.ranked, twin)


def _keeps_targets(champion: Scorer | None, gathered: Gathered) -> None:
    """Raise where a target that is served now would be given up though it is still asked for."""
    if champion is None or champion.cold_start:
        return
    served = {target.name for target in champion.targets}
    lost = [why for name, why in gathered.left_out.items() if name in served]
    if lost:
        raise TrainingError(
            f"nothing published: champion {champion.version} predicts what this model would not: "
            f"{'; '.join(lost)}; or unset the setting, if it is no longer wanted"
        )


def _not_passed(failing: dict[str, str], targets: tuple[Target, ...]) -> dict[str, str]:
    """Target -> why the gate left it out."""
    found = {}
    for question, target in zip(questions(targets), targets, strict=True):
        why = failing.get(target.name) or failing.get(question)
        if why:
            found[target.name] = (
                f"target {target.name} did not pass the gate: {why}; collect more events, change "
                f"{setting_of(target)}, or loosen the settings under `gate`"
            )
    return found


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


def _carried_over(
    found: Rankings,
    network: Network,
    gathered: Gathered,
    targets: tuple[Target, ...],
    config: TrainConfig,
    course: Course,
    names: Catalogue,
) -> Rankings:
    """Heads on the states of the network that is served, for what those of the gated fit may tell.

    The figures stay those of the gated fit: the served network knows labels of the time in which
    rankings are judged.
    """
    whats = tuple(ranking.what for ranking in found.told)
    rank = replace(config.rank, whats=whats)
    served = _ranked(network, gathered, targets, replace(config, rank=rank), course, None, names)
    lost = {r.what: r.refused for r in served.rankings if r.refused}
    rankings = tuple(
        replace_ranking(r, refused=lost[r.what]) if r.what in lost else r for r in found.rankings
    )
    return Rankings(rankings, served.ranked)


def _told(network: Network, examples: Examples, column: int) -> F64:
    """Calibrated probabilities of a target at the points of the validation slice."""
    points = examples.of_slice(VALIDATION)
    return predict_probabilities(network, examples, points)[:, column]


def _labels(examples: Examples, column: int) -> F32:
    labels: F32 = examples.labels[labelled(examples, VALIDATION, column), column]
    return labels


def _self_supervision(architecture: str, fit: FitConfig, lesson: Lesson | None) -> SelfSupervision:
    """What a network has learnt without labels: by `fit`, or before its lesson."""
    if lesson is not None:
        return lesson.self_supervision
    if convex(architecture):
        return SelfSupervision()
    task = fit.pretrain_task if fit.pretrain_epochs else ""
    return SelfSupervision(
        task,
        fit.pretrain_epochs,
        fit.pretrain_mask if task == "masked_event" else 0.0,
        fit.next_action_weight,
    )


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
