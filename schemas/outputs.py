"""What the engine predicts: predictions and churn alerts."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.events import Id, Milliseconds

__all__ = [
    "AlertCause",
    "AlertReason",
    "AlertState",
    "Arm",
    "ChurnAlert",
    "NextCategory",
    "NextItem",
    "Prediction",
    "PredictionReason",
    "Source",
    "SurvivalPoint",
    "TargetScore",
    "alert_id",
    "prediction_id",
]

AlertState = Literal["raised", "escalated", "resolved", "retracted"]
Arm = Literal["treatment", "holdout"]
AlertCause = Literal["behaviour", "silence", "model_change"]
PredictionReason = Literal["timer"]
Recalibration = Annotated[str, Meta(min_length=1)]


Probability = Annotated[float, Meta(ge=0, le=1)]
Duration = Annotated[int, Meta(ge=0)]
Currency = Annotated[str, Meta(min_length=3, max_length=3)]
_AS_THEY_COME: Final = (
    "Absent where no currency of the shop is set (money.currency): amounts count as they come."
)


class Source(Struct, frozen=True, gc=False):
    """Where in the event log something comes from."""

    topic: Annotated[str, Meta(min_length=1, description="Topic of the record.")]
    partition: Annotated[int, Meta(ge=0, description="Partition of the record.")]
    offset: Annotated[int, Meta(ge=0, description="Offset of the record in its partition.")]


class TargetScore(Struct, frozen=True, gc=False):
    """The score of one target."""

    probability: Annotated[Probability, Meta(description="Calibrated probability, 0 to 1.")]
    horizon_ms: Annotated[
        int, Meta(gt=0, description="How far ahead the probability looks, in milliseconds.")
    ]


class SurvivalPoint(Struct, frozen=True, gc=False):
    """How likely a user is to go without a purchase for a time."""

    horizon_ms: Annotated[int, Meta(gt=0, description="The time, in milliseconds.")]
    probability: Annotated[
        Probability, Meta(description="Calibrated probability of no purchase within it, 0 to 1.")
    ]


class NextCategory(Struct, frozen=True, gc=False):
    """How likely a user turns to a category next."""

    category_id: Annotated[Id, Meta(description="The category.")]
    probability: Annotated[
        Probability,
        Meta(
            description="Probability that the user's next event with a category is of it, 0 to 1."
        ),
    ]


class NextItem(Struct, frozen=True, gc=False):
    """How likely a user turns to an item next."""

    item_id: Annotated[Id, Meta(description="The item.")]
    probability: Annotated[
        Probability,
        Meta(description="Of the user's next event with an item being of this one, 0 to 1."),
    ]


class Prediction(Struct, frozen=True, gc=False, kw_only=True):
    """Propensities of one user after one event. Key: `user_id`."""

    prediction_id: Annotated[
        str,
        Meta(
            min_length=1,
            description="Deterministic: model version, topic, partition, offset; at a timer also "
            "@ and its time.",
        ),
    ]
    user_id: Annotated[Id, Meta(description="The user scored.")]
    targets: Annotated[
        dict[str, TargetScore],
        Meta(
            description="Score by target: `purchase` (buys), `churn` (does not come back); where "
            "the model has them, `cart` and `favourite`, and of the session `leave` (no further "
            "event), `purchase_in_session`, `cart_15m` and the like."
        ),
    ]
    model_version: Annotated[str, Meta(min_length=1, description="Version of the model.")]
    feature_version: Annotated[str, Meta(min_length=1, description="Version of the features.")]
    state_time: Annotated[
        Milliseconds,
        Meta(
            description="Event time up to which the user's history was known, ms since epoch; at a "
            "timer when it expired."
        ),
    ]
    event_time: Annotated[
        Milliseconds,
        Meta(
            description="Event time of the source event, ms since epoch; at a timer when it "
            "expired."
        ),
    ]
    source: Annotated[
        Source,
        Meta(description="The event that led to this prediction; at a timer the user's last one."),
    ]
    cold_start: Annotated[
        bool,
        Meta(
            description="True when the score is little more than a guess: no trained model was "
            "published yet, or too little is known of the user."
        ),
    ] = False
    stale: Annotated[
        bool, Meta(description="True when scored by an older model because the current one fails.")
    ] = False
    automated: Annotated[
        bool, Meta(description="True when the user behaves like a program, not a person.")
    ] = False
    expected_spend: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="Expected spend within the horizon of `purchase`, in the shop's currency; "
            "null where the model does not tell it."
        ),
    ] = None
    currency: Annotated[
        Currency | UnsetType, Meta(description="Currency of `expected_spend`. " + _AS_THEY_COME)
    ] = UNSET
    expected_wait_ms: Annotated[
        Duration | UnsetType,
        Meta(
            description="Expected time to the next purchase in milliseconds, of which no more "
            "counts than the last horizon of `survival`. Absent where the model does not tell it."
        ),
    ] = UNSET
    survival: Annotated[
        list[SurvivalPoint] | UnsetType,
        Meta(
            description="Probability of no purchase within each of ascending times; in between it "
            "falls at a constant rate. Absent where the model does not tell it."
        ),
    ] = UNSET
    next_categories: Annotated[
        list[NextCategory] | UnsetType,
        Meta(
            description="Categories that the user's next event may be of, the likeliest first, of "
            "the most frequent ones of the shop. Absent where the model does not rank them."
        ),
    ] = UNSET
    next_items: Annotated[
        list[NextItem] | UnsetType,
        Meta(
            description="Items that the user's next event may be of, the likeliest first, of the "
            "most frequent ones of the shop. Absent where the model does not rank them."
        ),
    ] = UNSET
    recalibration: Annotated[
        Recalibration | UnsetType,
        Meta(description="Version of the model's recalibration in effect. Absent: none is."),
    ] = UNSET
    reason: Annotated[
        PredictionReason | UnsetType,
        Meta(
            description="`timer`: predicted when a timer evaluated the user in inactivity. Absent: "
            "predicted at the source event."
        ),
    ] = UNSET


class AlertReason(Struct, frozen=True, gc=False):
    """One feature that moved the risk."""

    feature: Annotated[str, Meta(min_length=1, description="Name of the feature.")]
    change: Annotated[
        float, Meta(description="Change of the risk when the feature takes its typical value.")
    ]


class ChurnAlert(Struct, frozen=True, gc=False, kw_only=True):
    """A change in a user's churn alert. Key: `user_id`."""

    alert_id: Annotated[
        str,
        Meta(min_length=1, description="Deterministic id of this message: act once per alert_id."),
    ]
    episode: Annotated[
        str,
        Meta(
            min_length=1,
            description="alert_id of the raised alert; what follows up on it carries it too.",
        ),
    ]
    user_id: Annotated[Id, Meta(description="The user at risk.")]
    state: Annotated[
        AlertState,
        Meta(
            description="raised; escalated (still silent); resolved (came back); "
            "retracted (a late event shows that the alert was wrong)."
        ),
    ]
    risk: Annotated[Probability, Meta(description="Probability of churn when decided.")]
    silence_ms: Annotated[
        Duration, Meta(description="Milliseconds since the user's last event when decided.")
    ]
    expected_gap_ms: Annotated[
        Duration, Meta(description="The user's own expected gap between orders, milliseconds.")
    ]
    horizon_ms: Annotated[
        Duration | UnsetType,
        Meta(
            description="How far ahead the risk looks, milliseconds: the user is gone if no order "
            "comes within it. The user's own where `train.churn_gaps` is set.",
        ),
    ] = UNSET
    reasons: Annotated[
        list[AlertReason], Meta(description="Features that moved the risk most, strongest first.")
    ]
    value_at_risk: Annotated[
        float, Meta(ge=0, description="Spend expected to be lost, in the shop's currency.")
    ]
    arm: Annotated[
        Arm,
        Meta(description="treatment: act; holdout: do not act, so that effects are measurable."),
    ]
    holdout_epoch: Annotated[
        str | UnsetType,
        Meta(
            description="Which assignment to arms this is of, as salt:period number: within one a "
            "user has one arm, so compare the arms epoch by epoch. In `raised` only."
        ),
    ] = UNSET
    cause: Annotated[AlertCause, Meta(description="What made the risk cross the threshold.")]
    model_version: Annotated[str, Meta(min_length=1, description="Version of the model.")]
    event_time: Annotated[
        Milliseconds, Meta(description="When it was decided, on the event clock, ms since epoch.")
    ]
    source: Annotated[
        Source, Meta(description="The user's last event that was applied before the decision.")
    ]
    replayed: Annotated[
        bool | UnsetType,
        Meta(
            description="True when it was decided of the past: on events that reached Kafka long "
            "after they happened, such as a replay of history. Not to be acted on."
        ),
    ] = UNSET
    cold_start: Annotated[
        bool | UnsetType,
        Meta(
            description="True when it was decided before any trained model was published: the "
            "risk is of a purchase process without labels. Where `churn.raise_untrained` is not "
            "set, one whose predictions agree with the log so far."
        ),
    ] = UNSET
    decision_delay_ms: Annotated[
        Duration | UnsetType,
        Meta(
            description="How long after `event_time` it was decided: milliseconds to the Kafka "
            "timestamp of the event that led to it, or to the worker's clock. Absent where "
            "neither is known."
        ),
    ] = UNSET
    currency: Annotated[
        Currency | UnsetType, Meta(description="Currency of `value_at_risk`. " + _AS_THEY_COME)
    ] = UNSET
    recalibration: Annotated[
        Recalibration | UnsetType,
        Meta(description="Version of the model's recalibration in effect. Absent: none is."),
    ] = UNSET


def prediction_id(
    model_version: str, topic: str, partition: int, offset: int, at: int | None = None
) -> str:
    """Id of the prediction that this model makes after this source record.

    ``at``: when a timer expired after which it is made, ms; None: at the record itself. A user's
    timers expire one after the other, so no two predictions have one id.
    """
    made = "" if at is None else f"@{at}"
    return f"{model_version}:{topic}:{partition}:{offset}{made}"


def alert_id(user_id: str, state: AlertState, raised_at: int) -> str:
    """Id of the message of this state about the alert that was raised then (ms since epoch).

    An alert has each state once, and no two alerts of a user are raised at the same time.
    """
    return f"{user_id}:{raised_at}:{state}"
