"""Recalibrations of served models: fitted on the newest labels, published, announced.

The model is the champion that is announced. It predicts again, point-in-time, for examples of the
log; maps of its probabilities are fitted and evaluated (`models.training.recalibrate`), written
beside the models, signed where there is a key, and announced within the model's own announcement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import structlog

from models.data.dataset import label_points
from models.serving.manifest import read_manifest
from models.serving.recalibration import (
    Recalibration,
    announced_form,
    read_recalibration,
    versions_of,
    write_recalibration,
)
from models.serving.registry import Registry
from models.serving.scorer import Scorer
from models.serving.thresholds import lacking
from models.training.choosing import probabilities_of
from models.training.gather import STRAY_SHARE, span_of
from models.training.recalibrate import (
    RecalibrationRules,
    fit_maps,
    fit_threshold,
    matured_points,
    not_learnt,
)
from schemas.control import ModelPublished, RecalibrationPublished
from stream.config.targets import wanted_of
from stream.config.trust import manifest_check, recalibration_signer
from stream.errors import TrainerError
from stream.kafka.announce import announce_recalibration, read_announced
from stream.learning.trainer import budget_of, config_of

if TYPE_CHECKING:
    from models.data.dataset import Examples
    from stream.config.settings import Settings
    from stream.learning.logreader import Count
    from stream.learning.refresh import Refresher
    from stream.learning.sources import Source


log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Recalibrated:
    """One recalibration as it went."""

    found: Recalibration
    announced: bool
    seconds: float


def rules_of(settings: Settings) -> RecalibrationRules:
    """How maps are fitted, as the settings want it."""
    chosen = settings.recalibrate
    return RecalibrationRules(
        window_ms=chosen.window_ms,
        least_observed=chosen.least_observed,
        min_labels=chosen.min_labels,
        min_users=chosen.min_users,
        tolerance=chosen.tolerance,
        gate=config_of(settings, drop_late=True).gate,
    )


def recalibrate(
    settings: Settings, source: Source, *, count: Count | None = None, announced: bool = True
) -> Recalibrated:
    """Read the log, fit, publish and announce a recalibration of the champion.

    Args:
        settings: horizons, folder of models, cluster.
        source: where events come from.
        count: called as events are read.
        announced: whether running workers are told.

    Raises:
        TrainerError: there is no champion, or it changed meanwhile.
        IntentStreamError: nothing was published, and why.
    """
    champion, scorer = _champion(settings)
    events = source.read(count)
    until = span_of(events, _now(), source.refused).quantile(1 - STRAY_SHARE)
    dataset = config_of(settings, drop_late=source.in_arrival_order).dataset
    late = source.in_arrival_order
    points, split = matured_points(
        events, scorer.targets, dataset, until, rules_of(settings), drop_late=late
    )
    examples, timers = label_points(points, scorer.targets, split, open_too=True), None
    if dataset.timers is not None:
        timers = label_points(points, scorer.targets, split, timers=True, open_too=True)
    return _published(
        settings, champion, scorer, examples, until, timers, split.edges[0], announced=announced
    )


@dataclass
class Recalibrating:
    """Recalibrations between the rounds of a trainer, on the examples that it keeps."""

    settings: Settings
    refresher: Refresher
    clock: Callable[[], float] = time.monotonic
    _at: float | None = None

    def after(self, *, published: bool) -> Recalibrated | None:
        """Recalibrate the champion after a round, where it is time; None where it is not.

        It is time after a new model was published, and `recalibrate.every_ms` after the last time.

        Raises:
            IntentStreamError: nothing was published, and why.
        """
        every_ms = self.settings.recalibrate.every_ms
        kept = self.refresher.gathered
        if kept is None or every_ms is None:
            return None
        if not published and self._at is not None and self.clock() - self._at < every_ms / 1000:
            return None
        self._at = self.clock()
        champion, scorer = _champion(self.settings)
        if scorer.targets != self.refresher.targets:
            return None
        until = kept.split.edges[3]
        examples = self.refresher.open_examples()
        return _published(
            self.settings,
            champion,
            scorer,
            examples,
            until,
            kept.timers,
            sampled=kept.sampled,
            counted=until - kept.split.grace_ms,
        )


def _published(
    settings: Settings,
    champion: ModelPublished,
    scorer: Scorer,
    examples: Examples,
    until: int,
    timers: Examples | None,
    since: int = 0,
    *,
    announced: bool = True,
    sampled: float = 1.0,
    counted: int | None = None,
) -> Recalibrated:
    begun = time.monotonic()
    rules = rules_of(settings)
    folder = Registry(settings.models_dir).resolve(champion.version)
    manifest = read_manifest(folder)
    examples = not_learnt(examples, manifest)
    everything = np.arange(len(examples))
    said = probabilities_of(scorer, examples, everything)
    settle_ms = config_of(settings, drop_late=True).dataset.settle_ms
    fit = fit_maps(examples, said, scorer.targets, until, settle_ms, rules)
    raise_at = None
    if wanted_of(settings.churn) and timers is not None:
        timers = not_learnt(replace(timers, labels=timers.settled), manifest)
        said = probabilities_of(scorer, timers, np.arange(len(timers)))
        raise_at = fit_threshold(
            timers,
            said,
            scorer.targets,
            fit,
            until,
            settle_ms,
            rules,
            settings.churn.target_precision,
            since,
            budget_of(settings),
            sampled,
            counted,
        )
        for lacks in () if raise_at is None else lacking(raise_at):
            log.warning("the threshold before stays", lacks=lacks)
    now = _now()
    found = Recalibration(
        version=f"{datetime.fromtimestamp(now / 1000, UTC):%Y%m%dT%H%M%S%fZ}",
        model_version=champion.version,
        model_digest=champion.digest,
        created_at=now,
        until=until,
        window_ms=rules.window_ms,
        maps=fit.maps,
        findings=fit.findings,
        raise_at=raise_at,
    )
    sign = recalibration_signer(settings.models)
    digest, signature = write_recalibration(settings.models_dir, found, sign)
    told = None
    if found.changes:
        told = RecalibrationPublished(version=found.version, digest=digest, signature=signature)
    if announced:
        asyncio.run(_announce(settings, champion, told))
    return Recalibrated(found, announced, time.monotonic() - begun)


async def _announce(
    settings: Settings, champion: ModelPublished, told: RecalibrationPublished | None
) -> None:
    """Announce it, unless the model's role changed since it was read; None: no map is in effect."""
    now = (await read_announced(settings)).get(champion.version)
    if now is None or now.rollout != champion.rollout:
        raise TrainerError(
            f"model {champion.version} is no {champion.rollout} any more: its recalibration is in"
            f" {settings.models_dir} and not announced"
        )
    if told is not None or now.recalibration is not None:
        await announce_recalibration(settings, now, told)


def _champion(settings: Settings) -> tuple[ModelPublished, Scorer]:
    """The champion that is announced, as it is without any recalibration.

    Raises:
        TrainerError: there is none.
        ArtifactError: it must not be opened.
    """
    champions = asyncio.run(read_announced(settings)).of("champion")
    if not champions:
        raise TrainerError(
            "no champion is announced: there is nothing to recalibrate; run `intentstream train`"
        )
    folder = Registry(settings.models_dir).resolve(champions[0].version)
    check = manifest_check(settings.models)
    return champions[0], Scorer.load(folder, "cpu", check=check)


def take_back(settings: Settings, version: str | None) -> tuple[str, str | None]:
    """Announce a model with the recalibration before the one in effect, or none.

    Args:
        settings: folder of models, cluster.
        version: of the model; None: the champion.

    Returns:
        The model, and the recalibration that is in effect then.

    Raises:
        TrainerError: the model has no role, or no recalibration.
    """
    announced = asyncio.run(read_announced(settings))
    champions = announced.of("champion")
    name = version or (champions[0].version if champions else "")
    model = announced.get(name)
    if model is None or model.recalibration is None:
        raise TrainerError(
            f"model {name or '-'} has no recalibration that is announced: nothing to take back"
        )
    older = [
        each
        for each in versions_of(settings.models_dir, name)
        if each < model.recalibration.version
        and read_recalibration(settings.models_dir, name, each).changes
    ]
    before = announced_form(settings.models_dir, name, older[-1]) if older else None
    told = (
        None
        if before is None
        else RecalibrationPublished(version=older[-1], digest=before[0], signature=before[1])
    )
    asyncio.run(announce_recalibration(settings, model, told))
    return name, older[-1] if older else None


def _now() -> int:
    return time.time_ns() // 1_000_000
