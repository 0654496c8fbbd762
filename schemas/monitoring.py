"""What became of predictions and alerts: figures per model, verdicts per alert."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.control import Count, ModelVersion, Rollout
from schemas.events import Id, Milliseconds
from schemas.outputs import Arm

__all__ = [
    "AlertOutcome",
    "ModelMetrics",
    "PopulationMetrics",
    "RankingMetrics",
    "TargetMetrics",
    "Verdict",
]

Verdict = Literal["true", "false", "saved", "unknown"]

Unit = Annotated[float, Meta(ge=0, le=1)]


class PopulationMetrics(Struct, frozen=True, gc=False, kw_only=True):
    """Figures of one target in one population, in which each user counts once."""

    matured: Annotated[Count, Meta(description="Predictions in the rolling window.")]
    users: Annotated[Count, Meta(description="Users that they are of.")]
    base_rate: Annotated[Unit, Meta(description="Share that came true.")]
    log_loss: Annotated[float, Meta(ge=0, description="Mean log-loss, nats.")]
    base_log_loss: Annotated[
        float, Meta(ge=0, description="Of always predicting the base rate, known afterwards only.")
    ]
    ece: Annotated[Unit, Meta(description="Expected calibration error.")]
    ece_chance: Annotated[
        float,
        Meta(
            ge=0,
            description="Calibration error below which calibrated predictions of these users stay "
            "95 times of 100.",
        ),
    ]
    auc: Annotated[Unit | None, Meta(description="ROC-AUC; null with one class only.")] = None


class TargetMetrics(Struct, frozen=True, gc=False, kw_only=True):
    """Rolling figures of one target over the last matured predictions."""

    total: Annotated[Count, Meta(description="Predictions matured since the joiner began.")]
    matured: Annotated[Count, Meta(description="Of these in the rolling window.")]
    base_rate: Annotated[Unit, Meta(description="Share that came true.")]
    log_loss: Annotated[float, Meta(ge=0, description="Mean log-loss, nats.")]
    base_log_loss: Annotated[
        float, Meta(ge=0, description="Of always saying the base rate, known afterwards only.")
    ]
    ece: Annotated[Unit, Meta(description="Expected calibration error.")]
    auc: Annotated[Unit | None, Meta(description="ROC-AUC; null with one class only.")] = None
    recency_auc: Annotated[
        Unit | None, Meta(description="Of the recency baseline on the same predictions.")
    ] = None
    lift: Annotated[
        float | None,
        Meta(description="Rate among the tenth with the highest scores over the base rate."),
    ] = None
    populations: Annotated[
        dict[str, PopulationMetrics],
        Meta(
            description="Figures of predictions at events (`event`) and at timers (`timer`), as "
            "far as there are any."
        ),
    ] = {}


class RankingMetrics(Struct, frozen=True, gc=False, kw_only=True):
    """Rolling figures of the rankings of one thing over the last judged ones.

    Judged by the user's first later event that has such a name; before it comes, or if none ever
    does, a ranking is not judged.
    """

    total: Annotated[Count, Meta(description="Rankings judged since the joiner began.")]
    judged: Annotated[Count, Meta(description="Of these in the rolling window.")]
    hit_rate: Annotated[
        Unit, Meta(description="Share of them with what came next among the names told.")
    ]
    ndcg: Annotated[
        Unit,
        Meta(
            description="Mean normalised discounted cumulative gain of the names told, with what "
            "came next as the one right answer."
        ),
    ]
    last_hit_rate: Annotated[
        Unit,
        Meta(
            description="Of the same rankings, share where what came next was the user's last one "
            "again: the hit rate of always telling that alone."
        ),
    ]
    sampled: Annotated[Unit, Meta(description="Share of users that the figures are of.")] = 1.0


class ModelMetrics(Struct, frozen=True, gc=False, kw_only=True):
    """How a model does on what has matured. Key: `model_version`; the topic is compacted."""

    model_version: Annotated[str, Meta(min_length=1, description="Version of the model.")]
    targets: Annotated[dict[str, TargetMetrics], Meta(description="Figures by target.")]
    updated_at: Annotated[Milliseconds, Meta(description="When computed, ms since epoch.")]
    event_time: Annotated[
        Milliseconds, Meta(description="Event time up to which outcomes are known, ms.")
    ]
    rollout: Annotated[
        Rollout | None, Meta(description="Its role now; null when it has none any more.")
    ] = None
    stability: Annotated[
        dict[str, float],
        Meta(description="Population stability index of `score.` and `label.` by target."),
    ] = {}
    changes: Annotated[
        dict[str, Count],
        Meta(description="Changes of the mean that ADWIN found in `score.` and `log_loss.`."),
    ] = {}
    alarms: Annotated[list[str], Meta(description="What needs a look, each in one line.")] = []
    sampled: Annotated[
        Unit, Meta(description="Share of users that the figures by target are of.")
    ] = 1.0
    rankings: Annotated[
        dict[str, RankingMetrics],
        Meta(description="Figures of rankings by what is ranked: `category`, `item`."),
    ] = {}


class AlertOutcome(Struct, frozen=True, gc=False, kw_only=True):
    """What became of a raised churn alert. Key: `user_id`; the last one of an `alert_id` counts."""

    alert_id: Annotated[str, Meta(min_length=1, description="Id of the raised alert.")]
    user_id: Annotated[Id, Meta(description="The user.")]
    outcome: Annotated[
        Verdict,
        Meta(
            description="true: no purchase within the churn horizon. false: a purchase in the "
            "holdout arm, or the alert was retracted. saved: a purchase in the treatment arm; how "
            "many of these the action brought is told by the holdout arm alone. unknown: not "
            "matured yet."
        ),
    ]
    arm: Annotated[Arm, Meta(description="Arm of the alert.")]
    model_version: Annotated[ModelVersion, Meta(description="Version of the model.")]
    raised_at: Annotated[Milliseconds, Meta(description="Event time of the alert, ms.")]
    horizon_ms: Annotated[int, Meta(gt=0, description="How long a purchase was waited for, ms.")]
    returned_at: Annotated[
        int | None, Meta(description="Event time of the first purchase after it, ms.")
    ] = None
