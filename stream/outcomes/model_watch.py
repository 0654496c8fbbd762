"""Watches the models by their matured predictions: drift, changes, alarms, and bad canaries.

Pure; told of each verdict by the joiner.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import log
from typing import TYPE_CHECKING, Final

import numpy as np

from models.evaluate import PROBABILITY_FLOOR
from models.monitoring.changes import ChangeDetector
from models.monitoring.drift import LABEL, SCORE, SEVERE, DriftMonitor, Reference
from models.monitoring.sequential import Comparison
from models.populations import EVENT, TIMER
from schemas.monitoring import (
    AlertOutcome,
    ModelMetrics,
    PopulationMetrics,
    RankingMetrics,
    TargetMetrics,
)
from stream.outcomes.rules import horizon_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from models.monitoring.sequential import Look
    from schemas.control import Rollout
    from schemas.outputs import ChurnAlert
    from stream.outcomes.joiner import OutcomeJoiner
    from stream.outcomes.ranking_window import RankingFigures
    from stream.outcomes.rankings import RankingJoiner
    from stream.outcomes.verdicts import Matured
    from stream.outcomes.window import Figures, PopulationFigures
    from stream.pipeline.rollout import Announced

LOG_LOSS: Final = "log_loss."
MAX_MODELS: Final = 32
_RECENT_MS: Final = 7 * 86_400_000
"""A change found within this event time is an alarm."""
_FLUSH: Final = 256
_WHERE: Final = {EVENT: "at events", TIMER: "at timers"}


@dataclass(frozen=True)
class WatchRules:
    """When a model is complained of."""

    churn_horizon_ms: int
    alpha: float = 0.01
    """Chance of rolling back a canary that is no worse."""
    targets: int = 2
    """Compared of a canary; each has an equal share of `alpha` (Bonferroni)."""
    min_users: int = 100
    """Of canary and champion each, before they are compared."""
    max_ece: float = 0.1
    min_matured: int = 500
    """Fewer matured predictions raise no alarm."""


@dataclass(frozen=True)
class Rollback:
    """A canary that must go."""

    version: str
    reason: str


@dataclass
class _Model:
    monitor: DriftMonitor
    detectors: dict[str, ChangeDetector] = field(default_factory=dict)
    waiting: dict[str, list[float]] = field(default_factory=dict)

    def changed(self, name: str, value: float, at: int, min_samples: int) -> None:
        found = self.detectors.get(name)
        if found is None:
            found = self.detectors[name] = ChangeDetector(min_samples=min_samples)
        found.add(value, at)

    def drifted(self, name: str, value: float) -> None:
        values = self.waiting.setdefault(name, [])
        values.append(value)
        if len(values) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        for name, values in self.waiting.items():
            self.monitor.add(name, np.array(values))
            values.clear()


@dataclass
class _Trial:
    """A canary against the champion of its time."""

    version: str
    since: int
    by_target: dict[str, Comparison] = field(default_factory=dict)


class ModelWatch:
    """The joiner's listener: what the verdicts mean for models and alerts."""

    def __init__(
        self,
        rules: WatchRules,
        announced: Announced,
        reference_of: Callable[[str], Reference],
        known: dict[str, str] | None = None,
    ) -> None:
        """Begin with nothing seen.

        Args:
            rules: see there.
            announced: roles of the models, kept up to date by the caller.
            reference_of: distributions that a version was trained on; empty where unknown.
            known: alert id -> outcome that is published already; grows with what is told.
        """
        self._rules = rules
        self._announced = announced
        self._reference_of = reference_of
        self._known = {} if known is None else known
        self._models: dict[str, _Model] = {}
        self._trial: _Trial | None = None
        self.outcomes: deque[AlertOutcome] = deque()
        """Of alerts, to be published; the caller takes them."""
        self.rollbacks: deque[Rollback] = deque()
        """Decided on; the caller takes them."""

    def matured(self, found: Matured) -> None:
        """A prediction has met its label."""
        model = self._model(found.version)
        said = found.probability if found.label else 1 - found.probability
        loss = -log(max(said, PROBABILITY_FLOOR))
        label = float(found.label)
        model.drifted(SCORE + found.target, found.probability)
        model.drifted(LABEL + found.target, label)
        at, enough = found.time, self._rules.min_matured
        model.changed(SCORE + found.target, found.probability, at, enough)
        model.changed(LOG_LOSS + found.target, loss, at, enough)
        self._compare(found, loss)

    def alert_raised(self, alert: ChurnAlert) -> None:
        """An alert is new: its outcome is unknown."""
        if alert.state == "raised" and alert.alert_id not in self._known:
            self._tell(alert, "unknown", None)

    def alert_settled(self, alert: ChurnAlert, returned_at: int | None, *, retracted: bool) -> None:
        """A raised alert's horizon is over, or it was retracted."""
        if retracted:
            outcome = "false"
        elif returned_at is None:
            outcome = "true"
        else:
            outcome = "false" if alert.arm == "holdout" else "saved"
        if self._known.get(alert.alert_id) != outcome:
            self._tell(alert, outcome, returned_at)

    def erase(self, users: AbstractSet[str]) -> None:
        """Tell nothing of users who have just been erased."""
        self.outcomes = deque(each for each in self.outcomes if each.user_id not in users)

    def metrics(
        self, joiner: OutcomeJoiner, now: int, rankings: RankingJoiner | None = None
    ) -> list[ModelMetrics]:
        """Figures of every model with matured predictions or judged rankings; `now` in ms."""
        found: dict[str, dict[str, Figures]] = {}
        for target in joiner.targets:
            for version in joiner.versions(target):
                figures = joiner.figures(target, version)
                if figures is not None:
                    found.setdefault(version, {})[target] = figures
        ranked = {} if rankings is None else _ranked(rankings)
        for version in ranked:
            found.setdefault(version, {})
        return [
            self._metrics(version, figures, ranked.get(version, {}), joiner, now)
            for version, figures in found.items()
        ]

    def _metrics(
        self,
        version: str,
        figures: dict[str, Figures],
        ranked: dict[str, RankingMetrics],
        joiner: OutcomeJoiner,
        now: int,
    ) -> ModelMetrics:
        model = self._model(version)
        model.flush()
        stability = model.monitor.indices()
        published = self._announced.get(version)
        role: Rollout | None = published.rollout if published else None
        return ModelMetrics(
            model_version=version,
            targets={target: _target(found) for target, found in figures.items()},
            updated_at=now,
            event_time=joiner.clock,
            rollout=role,
            stability=stability,
            changes={name: d.changes for name, d in model.detectors.items() if d.changes},
            alarms=[
                *self._alarms(model, figures, stability, joiner.clock),
                *_ranking_alarms(ranked, self._rules.min_matured),
            ],
            sampled=joiner.sampled,
            rankings=ranked,
        )

    def _alarms(
        self, model: _Model, figures: dict[str, Figures], stability: dict[str, float], clock: int
    ) -> list[str]:
        alarms = [
            f"{name} has drifted: stability index {index:.3f}"
            for name, index in sorted(stability.items())
            if index > SEVERE
        ]
        alarms += [
            f"{name} has changed: its mean is now {found.mean:.4f}"
            for name, found in sorted(model.detectors.items())
            if found.last_change is not None and clock - found.last_change < _RECENT_MS
        ]
        for target, found in figures.items():
            for name, part in found.populations.items():
                alarms += self._of_population(f"{target} {_WHERE[name]}", part)
        return alarms

    def _of_population(self, what: str, found: PopulationFigures) -> list[str]:
        alarms = []
        if found.matured >= self._rules.min_matured:
            if found.ece > max(self._rules.max_ece, found.ece_chance):
                alarms.append(f"{what} is badly calibrated: error {found.ece:.3f}")
            if found.log_loss > found.base_log_loss:
                alarms.append(
                    f"{what} is no better than its base rate: log-loss {found.log_loss:.4f}"
                    f" against {found.base_log_loss:.4f}"
                )
        return alarms

    def _model(self, version: str) -> _Model:
        model = self._models.pop(version, None)
        if model is None:
            reference = self._reference_of(version)
            model = _Model(DriftMonitor(reference, self._rules.min_matured))
        # The one used last stands last.
        self._models[version] = model
        if len(self._models) > MAX_MODELS:
            del self._models[next(iter(self._models))]
        return model

    def _compare(self, found: Matured, loss: float) -> None:
        canaries = self._announced.of("canary")
        if not canaries:
            self._trial = None
            return
        version = canaries[0].version
        trial = self._trial
        if trial is None or trial.version != version:
            if found.version != version:
                return
            trial = self._trial = _Trial(version, found.time)
        if found.time < trial.since:
            return
        champions = self._announced.of("champion")
        serving = champions[0].version if champions else None
        comparison = trial.by_target.get(found.target)
        if comparison is None:
            share = self._rules.alpha / self._rules.targets
            comparison = Comparison(share, self._rules.min_users)
            trial.by_target[found.target] = comparison
        if found.version == version:
            comparison.ours.add(found.user, loss)
        elif found.version == serving:
            comparison.theirs.add(found.user, loss)
        look = comparison.look()
        if look is not None and look.worse:
            self.rollbacks.append(Rollback(version, _why(found.target, look)))
            self._announced.note(version, None)
            self._trial = None

    def _tell(self, alert: ChurnAlert, outcome: str, returned_at: int | None) -> None:
        self._known[alert.alert_id] = outcome
        self.outcomes.append(
            AlertOutcome(
                alert_id=alert.alert_id,
                user_id=alert.user_id,
                outcome=outcome,  # type: ignore[arg-type]
                arm=alert.arm,
                model_version=alert.model_version,
                raised_at=alert.event_time,
                horizon_ms=horizon_of(alert, self._rules.churn_horizon_ms),
                returned_at=returned_at,
            )
        )


def _why(target: str, look: Look) -> str:
    return f"{target} is worse than the champion's: {look}"


def _ranked(rankings: RankingJoiner) -> dict[str, dict[str, RankingMetrics]]:
    """By model what its rankings were worth, by what is ranked."""
    found: dict[str, dict[str, RankingMetrics]] = {}
    for what in rankings.whats:
        for version in rankings.versions(what):
            figures = rankings.figures(what, version)
            if figures is not None:
                found.setdefault(version, {})[what] = _ranking(figures, rankings.sampled)
    return found


def _ranking(found: RankingFigures, sampled: float) -> RankingMetrics:
    return RankingMetrics(
        total=found.total,
        judged=found.judged,
        hit_rate=found.hit_rate,
        ndcg=found.ndcg,
        last_hit_rate=found.last_hit_rate,
        sampled=sampled,
    )


def _ranking_alarms(ranked: dict[str, RankingMetrics], least: int) -> list[str]:
    """Of rankings that tell less than the user's last name, whose gain is its hit rate."""
    return [
        f"next {what} tells less than the user's last one: NDCG {found.ndcg:.3f} against"
        f" {found.last_hit_rate:.3f}"
        for what, found in ranked.items()
        if found.judged >= least and found.ndcg < found.last_hit_rate
    ]


def _target(found: Figures) -> TargetMetrics:
    return TargetMetrics(
        total=found.total,
        matured=found.matured,
        base_rate=found.base_rate,
        log_loss=found.log_loss,
        base_log_loss=found.base_log_loss,
        ece=found.ece,
        auc=found.auc,
        recency_auc=found.recency_auc,
        lift=found.lift,
        populations={
            name: PopulationMetrics(
                matured=part.matured,
                users=part.users,
                base_rate=part.base_rate,
                log_loss=part.log_loss,
                base_log_loss=part.base_log_loss,
                ece=part.ece,
                ece_chance=part.ece_chance,
                auc=part.auc,
            )
            for name, part in found.populations.items()
        },
    )
