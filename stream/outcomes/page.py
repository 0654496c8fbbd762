"""The pages of `intentstream outcomes`: whether it keeps up, and the figures of each model.

Host and token are the worker's (`stream/health/web.py`): the figures name no user, but are nobody
else's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stream.health.health import Answer
from stream.health.web import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from schemas.monitoring import ModelMetrics
    from stream.config.settings import Settings

_MISSED: Final = 3
"""Intervals without figures after which it is not ready: one may be missed on a busy machine."""
_FIGURES: Final = {
    "matured": "Predictions that the figures are of.",
    "base_rate": "Share of them that came true.",
    "auc": "ROC-AUC.",
    "log_loss": "Mean log-loss, nats.",
    "base_log_loss": "Log-loss of always saying the base rate.",
    "ece": "Expected calibration error.",
    "lift": "Rate among the tenth with the highest scores over the base rate.",
}
_POPULATIONS: Final = {
    "matured": "Predictions at events (event) or at timers (timer) that the figures are of.",
    "users": "Users that they are of; each counts once.",
    "base_rate": "Share of them that came true.",
    "auc": "ROC-AUC.",
    "log_loss": "Mean log-loss, nats.",
    "base_log_loss": "Log-loss of always predicting the base rate.",
    "ece": "Expected calibration error.",
    "ece_chance": "Calibration error that calibrated predictions stay below 95 times of 100.",
}
_RANKINGS: Final = {
    "judged": "Rankings that the figures are of.",
    "hit_rate": "Share of them with what came next among the names told.",
    "ndcg": "Normalised discounted cumulative gain of the names told.",
    "last_hit_rate": "Share of them where the user's last one came next again.",
}


class Judging(Protocol):
    """What the pages show."""

    metrics: list[ModelMetrics]
    """As published last."""
    published_at: int | None
    """When that was, ms since the epoch; None before the first time."""


class OutcomesHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The process at one moment."""

    ready: bool
    """It has read what there was, and figures were published lately."""
    published_at: int | None
    """Ms since the epoch; None while it reads what there is."""
    models: tuple[str, ...]
    """Those judged."""
    alarms: tuple[str, ...]
    """What needs a look, "version: what"; no alarm makes it unready."""


class OutcomePages:
    """Serves `/health` and `/metrics` of one process."""

    def __init__(
        self,
        settings: Settings,
        judging: Judging,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Serve nothing yet.

        Args:
            settings: `outcomes.http_port`, and the worker's http_host and http_token.
            judging: what is shown; read from the server's thread.
            clock: ms since the epoch.

        Raises:
            SettingsError: the token cannot be read or is too short.
        """
        self._judging = judging
        self._clock = clock
        self._late_ms = _MISSED * settings.outcomes.publish_ms
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        where = settings.worker.model_copy(update={"http_port": settings.outcomes.http_port})
        self._web = WebServer(where, self._answer, self._text, setting="outcomes.http_port")

    @property
    def port(self) -> int | None:
        """The port served, once started."""
        return self._web.port

    def start(self) -> None:
        """Serve from now on.

        Raises:
            WorkerError: the address cannot be had.
        """
        self._web.start()

    def close(self) -> None:
        """Stop serving."""
        self._web.close()

    def health(self) -> OutcomesHealth:
        """Look at the process; from any thread."""
        metrics, published_at = self._judging.metrics, self._judging.published_at
        return OutcomesHealth(
            ready=published_at is not None and self._clock() - published_at <= self._late_ms,
            published_at=published_at,
            models=tuple(found.model_version for found in metrics),
            alarms=tuple(f"{m.model_version}: {alarm}" for m in metrics for alarm in m.alarms),
        )

    def _answer(self) -> Answer:
        health = self.health()
        return Answer(health.ready, msgspec.json.encode(health))

    def _text(self) -> bytes:
        now = _Now(self.health(), self._judging.metrics)
        return generate_latest(self._process) + generate_latest(now)


class _Now(Collector):
    """The figures published last, as metrics."""

    def __init__(self, health: OutcomesHealth, metrics: list[ModelMetrics]) -> None:
        self._health, self._metrics = health, metrics

    def collect(self) -> Iterable[Metric]:
        health = self._health
        yield GaugeMetricFamily(
            "intentstream_outcomes_ready", "1 when all is well.", value=float(health.ready)
        )
        yield GaugeMetricFamily(
            "intentstream_outcomes_published_seconds",
            "When figures were published last, since the epoch; 0 before.",
            value=(health.published_at or 0) / 1000,
        )
        labels = ["model", "target"]
        figures = {
            name: GaugeMetricFamily(f"intentstream_model_{name}", text, labels=labels)
            for name, text in _FIGURES.items()
        }
        apart = {
            name: GaugeMetricFamily(
                f"intentstream_population_{name}", text, labels=[*labels, "population"]
            )
            for name, text in _POPULATIONS.items()
        }
        rankings = {
            name: GaugeMetricFamily(
                f"intentstream_ranking_{name}", text, labels=["model", "ranking"]
            )
            for name, text in _RANKINGS.items()
        }
        alarms = GaugeMetricFamily(
            "intentstream_model_alarms", "What needs a look.", labels=["model"]
        )
        stability = GaugeMetricFamily(
            "intentstream_model_stability",
            "Population stability index of scores and labels; 0.25 is severe.",
            labels=["model", "of"],
        )
        for found in self._metrics:
            alarms.add_metric([found.model_version], len(found.alarms))
            for name, index in found.stability.items():
                stability.add_metric([found.model_version, name], index)
            for target, told in found.targets.items():
                _add(figures, [found.model_version, target], told)
                for population, part in told.populations.items():
                    _add(apart, [found.model_version, target, population], part)
            for what, ranked in found.rankings.items():
                _add(rankings, [found.model_version, what], ranked)
        yield from figures.values()
        yield from apart.values()
        yield from rankings.values()
        yield alarms
        yield stability


def _add(gauges: dict[str, GaugeMetricFamily], labels: list[str], found: object) -> None:
    for name, gauge in gauges.items():
        # A figure that cannot be told, such as AUC of one class, is left out.
        if (value := getattr(found, name)) is not None:
            gauge.add_metric(labels, value)
