"""The trainer: event log -> model -> folder of models -> announcement on `models.published`."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from models.data.dataset import DatasetConfig
from models.data.timers import TimerRules
from models.errors import ArtifactError, CheckpointError, DatasetError, TrainingError
from models.fitting.config import IN_SESSION_PASSES, IN_SESSION_WEIGHT, RefreshConfig
from models.fitting.distributed import SINGLE, Group
from models.fitting.fit import FitConfig, Report
from models.history import SessionRules
from models.inputs.features import FEATURE_VERSION
from models.inputs.segments import Evidence
from models.log.eventlog import Until
from models.ranking.train import RankConfig
from models.serving.artifact import read_artifact, read_gated
from models.serving.manifest import Manifest
from models.serving.registry import Registry
from models.serving.scorer import Scorer
from models.serving.thresholds import lacking
from models.targets import WAIT, questions
from models.training.budget import AlertRules
from models.training.candidates import Course
from models.training.gate import GateRules
from models.training.recalibrate import WIDER
from models.training.train import TrainConfig, Trained, train
from schemas.errors import IntentStreamError
from stream.config.settings import Settings
from stream.config.targets import cancel_window_of, targets_of, wanted_of
from stream.config.trust import manifest_check, model_signer
from stream.errors import BrokerError
from stream.kafka.announce import announce, read_announced
from stream.learning.logreader import Count
from stream.learning.refresh import STATE_FILE, Refresher
from stream.learning.sources import Source
from stream.learning.tracking import tracked
from stream.learning.unlabelled import without_labels

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Round:
    """One training round as it went."""

    manifest: Manifest
    folder: Path
    announced: bool
    seconds: float


def config_of(settings: Settings, *, drop_late: bool) -> TrainConfig:
    """Training as the settings want it, with the worker's own rules of histories."""
    chosen, state = settings.train, settings.state
    sessions = SessionRules(gap=state.session_gap_ms, longest=state.session_max_ms)
    # A network over sequences is published only where it surely beats the blend.
    simpler = () if chosen.architecture == "logistic" else ("blend",)
    candidates = tuple(dict.fromkeys((*simpler, chosen.architecture)))
    return TrainConfig(
        dataset=DatasetConfig(
            history_length=state.ring,
            session_points=chosen.intent_points,
            min_orders=settings.churn.min_orders,
            calibration_share=chosen.validation_share,
            validation_share=chosen.test_share,
            grace_ms=state.grace_ms,
            correction_ms=state.correction_ms,
            bot_session_events=state.bot_session_events,
            sessions=sessions,
            min_points=chosen.min_windows,
            cancel_window_ms=cancel_window_of(settings),
            max_users=chosen.max_users,
            seed=chosen.seed,
            timers=timers_of(settings),
        ),
        target_precision=settings.churn.target_precision,
        budget=budget_of(settings),
        fit=fit_of(settings),
        refresh=RefreshConfig(
            epochs=chosen.refresh_epochs, rate=chosen.refresh_rate, replay=chosen.replay
        ),
        rank=RankConfig(
            whats=tuple(dict.fromkeys(chosen.rank)),
            vocabulary=chosen.rank_vocabulary,
            least_moments=settings.gate.min_points,
        ),
        candidates=candidates,
        refit=chosen.refit,
        hidden_size=state.hidden_size,
        drop_late=drop_late,
        gate=GateRules(
            confidence=settings.gate.confidence,
            resamples=settings.gate.resamples,
            min_points=settings.gate.min_points,
            tolerance=settings.gate.tolerance,
            max_ece=settings.gate.max_ece,
            evidence=evidence_of(settings),
            seed=chosen.seed,
        ),
    )


def timers_of(settings: Settings) -> TimerRules | None:
    """When timers evaluate users, where the threshold of alerts is to be learnt."""
    rules = settings.churn
    if not wanted_of(rules):
        return None
    budget = budget_of(settings)
    return TimerRules(
        rules.gap_factor,
        rules.recheck_factor,
        rules.min_gap_ms,
        rules.prior_gap_ms,
        counted_ms=0 if budget is None else budget.window_ms,
    )


def budget_of(settings: Settings) -> AlertRules | None:
    """How many alerts a day are to be raised; None: that is not asked for."""
    rules = settings.churn
    if rules.alert_budget_per_day is None:
        return None
    return AlertRules(
        rules.alert_budget_per_day,
        treated=1 - rules.holdout_share,
        dwell_ms=rules.dwell_ms,
        cooldown_ms=rules.cooldown_ms,
        window_ms=WIDER * settings.recalibrate.window_ms,
    )


def fit_of(settings: Settings) -> FitConfig:
    """How networks are fitted."""
    chosen = settings.train
    wishes = {str(name): weight for name, weight in chosen.task_weights.items()}
    targets = targets_of(settings)
    asked = questions(targets)
    in_session = any(target.at_events for target in targets)
    passes, weight = chosen.pretrain_epochs, chosen.next_action_weight
    if passes is None:
        passes = IN_SESSION_PASSES if in_session else 0
    if weight is None:
        weight = IN_SESSION_WEIGHT if in_session else 0.0
    return FitConfig(
        epochs=chosen.epochs,
        patience=chosen.patience,
        min_gain=chosen.min_gain,
        pretrain_epochs=passes,
        pretrain_task=chosen.pretrain_task,
        pretrain_mask=chosen.pretrain_mask,
        next_action_weight=weight,
        oldest_weight=chosen.oldest_weight,
        windows=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        schedule=chosen.schedule,
        warm_up=chosen.warm_up,
        weight_decay=chosen.weight_decay,
        clip_norm=chosen.clip_norm,
        precision=chosen.precision,
        task_weights=tuple(wishes.get(name, 1.0) for name in asked) if wishes else (),
        questions=asked if WAIT in asked else (),
        negatives=chosen.negatives,
        logistic_penalty=chosen.logistic_penalty,
        seed=chosen.seed,
    )


def refresher_of(settings: Settings, source: Source, *, kept: bool) -> Refresher:
    """Training that goes on; `kept` on disk, or within this process only.

    Raises:
        CheckpointError: what is kept is damaged or of other settings.
    """
    config = config_of(settings, drop_late=source.in_arrival_order)
    path = settings.data_dir / STATE_FILE if kept else None
    return Refresher(settings, source, targets_of(settings), config, path)


def evidence_of(settings: Settings) -> Evidence:
    """What must be known of a user."""
    return Evidence(settings.evidence.min_events, settings.evidence.min_orders)


def champion_of(settings: Settings) -> Scorer | None:
    """The champion, which a new model must not be worse than; None if there is none that opens.

    Of one that was fitted again after its gate it is the fit that was judged: what serves has
    learnt from labels of the time in which the new model is judged, and would look too good.

    It is the one that is announced, or, where no cluster answers, the one that was published last.
    """
    registry = Registry(settings.models_dir)
    latest = registry.latest()
    version = None if latest is None else latest.version
    if settings.kafka.bootstrap_servers:
        try:
            announced = asyncio.run(read_announced(settings)).of("champion")
            version = announced[0].version if announced else None
        except BrokerError as error:
            log.warning("the champion is taken to be the last one here", why=str(error))
    if version is None:
        return None
    check = manifest_check(settings.models)
    try:
        path = registry.path(version)
        artifact = read_artifact(path, feature_version=FEATURE_VERSION, check=check)
        return Scorer.of_artifact(read_gated(artifact), "cpu")
    except ArtifactError as error:
        log.warning("the champion cannot be compared with", model=version, why=str(error))
        return None


def run_round(
    settings: Settings,
    source: Source,
    *,
    until: int | None = None,
    device: str = "auto",
    announced: bool = True,
    count: Count | None = None,
    report: Report | None = None,
    group: Group = SINGLE,
    resume: bool = False,
    refresher: Refresher | None = None,
) -> Round:
    """Read, train, publish and announce once.

    Args:
        settings: horizons, folder of models, cluster.
        source: where events come from.
        until: latest event time to learn from, ms.
        device: "auto", "cpu" or "cuda".
        announced: whether to tell running workers.
        count: called as events are read.
        report: called after each epoch.
        group: the processes that train together; the first of them publishes.
        resume: go on with the fits that were interrupted.
        refresher: has the earlier rounds; None: this one stands alone.

    Raises:
        IntentStreamError: nothing was published, and why; or it was published and not announced.
    """
    begun = time.monotonic()
    chosen = settings.train
    sign = model_signer(settings.models)
    now = time.time_ns() // 1_000_000
    with tracked(settings, now, report, leads=group.leads) as track:
        checkpoints = settings.data_dir / "fits"
        course = Course(device, track.epoch, group, checkpoints, resume)
        champion = champion_of(settings)
        config = config_of(settings, drop_late=source.in_arrival_order)
        try:
            if refresher is not None:
                trained = refresher.train(until, now, course, count, champion)
            else:
                events = source.read(count)
                trained = train(
                    events if until is None else Until(events, until),
                    targets_of(settings),
                    config,
                    created_at=now,
                    invalid=source.refused,
                    course=course,
                    champion=champion,
                    names=source.names,
                )
        except CheckpointError:
            raise
        except (DatasetError, TrainingError) as why:
            if refresher is not None and refresher.begun:
                raise  # Its events are no longer kept one by one.
            trained = without_labels(settings, source, config, champion, why, until=until, now=now)
        track.figures(trained.manifest.metrics)
    _tell_left_out(trained)
    if not group.leads:
        return Round(trained.manifest, Path(), announced=False, seconds=time.monotonic() - begun)
    course.clear()
    registry = Registry(settings.models_dir)
    documents = trained.documents()
    manifest = registry.publish(trained.manifest, trained.script, trained.golden, sign, documents)
    if refresher is not None and not manifest.cold_start:
        refresher.published(manifest.version)
    if announced:
        # Before a trained model there is nothing that one could be tried beside.
        role = "champion" if manifest.cold_start else chosen.rollout
        asyncio.run(announce(settings, manifest, role, chosen.canary_share))
    seconds = time.monotonic() - begun
    return Round(manifest, registry.path(manifest.version), announced, seconds)


def _tell_left_out(trained: Trained) -> None:
    """Log what was asked for and is not published."""
    for ranking in trained.card.rankings:
        if ranking.refused:
            log.warning("a ranking is left out", what=ranking.what, why=ranking.refused)
    raise_at = trained.manifest.raise_at
    for lacks in () if raise_at is None else lacking(raise_at):
        log.warning("churn.raise_at is used", lacks=lacks)
    for target, why in trained.manifest.left_out.items():
        log.warning("a target is left out", target=target, why=why)


def rounds(
    every_ms: int | None,
    once: Callable[[], T],
    wait: Callable[[float], bool] | None,
) -> Iterator[T | IntentStreamError]:
    """Run `once`, and again every `every_ms`; a round that fails is reported and tried again.

    Args:
        every_ms: from start to start of the rounds; None: one round, whose error is raised.
        once: trains and publishes, or does whatever is done again.
        wait: sleeps for some seconds; True ends the rounds; not needed for one round.
    """
    if every_ms is None or wait is None:
        yield once()
        return
    while True:
        begun = time.monotonic()
        try:
            yield once()
        except IntentStreamError as error:
            yield error
        if wait(max(every_ms / 1000 - (time.monotonic() - begun), 0)):
            return
