"""Messages between the engine's own parts: models, erasure, heartbeats."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.events import Id, Milliseconds
from schemas.outputs import Source

__all__ = [
    "EraseReceipt",
    "EraseUser",
    "ModelPublished",
    "ModelVersion",
    "RecalibrationPublished",
    "Rollout",
    "WorkerStatus",
]

ModelVersion = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)")]
"""A version names a folder, so it has only characters that are safe in a path.

Python's `$` also matches before a last line feed, hence the look-ahead in the patterns here."""
Rollout = Literal["shadow", "canary", "champion"]
Count = Annotated[int, Meta(ge=0)]


Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class RecalibrationPublished(Struct, frozen=True, gc=False, kw_only=True):
    """A recalibration of a published model, in effect as long as this announcement is the last."""

    version: Annotated[ModelVersion, Meta(description="Version of the recalibration.")]
    digest: Annotated[Digest, Meta(description="SHA-256 of its file, lower-case hex.")]
    signature: Annotated[
        str | None, Meta(description="Signature over the file, base64; null when unsigned.")
    ] = None


class ModelPublished(Struct, frozen=True, gc=False, kw_only=True):
    """A trained model is ready to be served. Key: `version`; the topic is compacted."""

    version: Annotated[ModelVersion, Meta(description="Unique version of the model.")]
    digest: Annotated[
        str,
        Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="SHA-256 of model.pt, lower-case hex."),
    ]
    uri: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$(?!\n)",
            max_length=512,
            description="Path of the artifact relative to the models folder; never leaves it.",
        ),
    ]
    architecture: Annotated[str, Meta(min_length=1, description="Name of the network.")]
    feature_version: Annotated[str, Meta(min_length=1, description="Features it was trained on.")]
    metrics: Annotated[
        dict[str, float], Meta(description="Figures of the evaluation on held-out time.")
    ]
    published_at: Annotated[Milliseconds, Meta(description="When published, ms since epoch.")]
    rollout: Annotated[
        Rollout,
        Meta(
            description="shadow: scored, written to predictions.shadow only; canary: serves a "
            "share of users; champion: all others."
        ),
    ] = "champion"
    canary_share: Annotated[
        float, Meta(ge=0, le=1, description="Share of users that a canary serves.")
    ] = 0.0
    signature: Annotated[
        str | None, Meta(description="Signature over the manifest, base64; null when unsigned.")
    ] = None
    recalibration: Annotated[
        RecalibrationPublished | None,
        Meta(description="Its recalibration in effect; null: its probabilities are as they are."),
    ] = None


class EraseUser(Struct, frozen=True, gc=False, kw_only=True):
    """A request to forget a user. Key: `user_id`."""

    request_id: Annotated[Id, Meta(description="Unique id of the request.")]
    user_id: Annotated[Id, Meta(description="The user to forget.")]
    requested_at: Annotated[Milliseconds, Meta(description="When requested, ms since epoch.")]
    requested_by: Annotated[str | None, Meta(description="Who asked for it.")] = None


class EraseReceipt(Struct, frozen=True, gc=False, kw_only=True):
    """What the erasure of a user removed. Key: `user_id`."""

    request_id: Annotated[Id, Meta(description="Id of the request.")]
    user_id: Annotated[Id, Meta(description="The user that was forgotten.")]
    erased_at: Annotated[Milliseconds, Meta(description="When erased, ms since epoch.")]
    removed: Annotated[
        dict[str, Count], Meta(description="What was removed: place -> number of entries.")
    ]
    source: Annotated[Source, Meta(description="Where the request lies.")]
    before: Annotated[
        Source | None,
        Meta(description="First source record that counts again: all of the user before is gone."),
    ] = None
    remaining: Annotated[
        dict[str, int | None],
        Meta(
            description="Topic -> until when it may still hold copies, ms since epoch, by its"
            " retention as set now; null: for ever. Kafka deletes no single records."
        ),
    ] = {}
    notes: Annotated[
        list[str], Meta(description="For people: what the erasure does not cover, and local files.")
    ] = []


class WorkerStatus(Struct, frozen=True, gc=False, kw_only=True):
    """Heartbeat of one partition. Key: the partition number in decimal; the topic is compacted."""

    worker_id: Annotated[str, Meta(min_length=1, description="Id of the worker process.")]
    partition: Annotated[int, Meta(ge=0, description="Partition of the event topic.")]
    offset: Annotated[
        int, Meta(ge=0, description="Next offset to process: everything before is committed.")
    ]
    high_water: Annotated[int, Meta(ge=0, description="End offset of the partition.")]
    watermark: Annotated[
        int, Meta(ge=0, description="Greatest event time seen minus the grace, ms; 0 before any.")
    ]
    consumed: Annotated[
        Count, Meta(description="Records consumed: accepted + duplicate + late + invalid.")
    ]
    accepted: Annotated[Count, Meta(description="Events applied to a history.")]
    duplicate: Annotated[Count, Meta(description="Events seen before.")]
    late: Annotated[Count, Meta(description="Events sent to the late topic.")]
    invalid: Annotated[Count, Meta(description="Events sent to the dead-letter topic.")]
    predictions: Annotated[Count, Meta(description="Predictions written.")]
    alerts: Annotated[Count, Meta(description="Alert messages written.")]
    model_version: Annotated[str, Meta(min_length=1, description="Version being served.")]
    users: Annotated[Count, Meta(description="Users with a record in this partition.")]
    updated_at: Annotated[Milliseconds, Meta(description="Time of the heartbeat, ms since epoch.")]
    timers_due_at: Annotated[
        int | None, Meta(description="When the earliest timer is due, ms; null without timers.")
    ] = None
    canary_version: Annotated[
        str | None, Meta(description="Version that serves a share of the users; null: none.")
    ] = None
    shadow_version: Annotated[
        str | None, Meta(description="Version that scores without being heard; null: none.")
    ] = None
    stability: Annotated[
        dict[str, float],
        Meta(description="Population stability index of the inputs, of the last users seen."),
    ] = {}
    ahead: Annotated[
        Count,
        Meta(
            description="Events that count as of their Kafka timestamp because their own time was "
            "too far ahead of it."
        ),
    ] = 0
    behind: Annotated[
        Count, Meta(description="Events whose time is up to 14 hours behind their Kafka timestamp.")
    ] = 0
    offsets: Annotated[
        dict[str, Count],
        Meta(
            description="Time-zone offset in milliseconds -> events whose time is off by it, as "
            "those of a producer that writes local time as UTC."
        ),
    ] = {}
    skewed: Annotated[
        dict[str, Count],
        Meta(description="Type -> events that are ahead or behind, which tells their producers."),
    ] = {}
    skewed_at: Annotated[
        Count | None, Meta(description="Source offset of the last one of these; null: none.")
    ] = None
    lost: Annotated[
        Count, Meta(description="Offsets that retention deleted before they were read.")
    ] = 0
    overflow: Annotated[
        Count,
        Meta(
            description="Late events that were within the grace, but before the oldest of the "
            "events that are kept of a user who has more than those at once."
        ),
    ] = 0
    blocked_at: Annotated[
        Count | None,
        Meta(description="Open transaction that keeps later records back; null: none."),
    ] = None
    currency: Annotated[
        str | None,
        Meta(description="The shop's currency; null: amounts count as they come."),
    ] = None
    currencies: Annotated[
        dict[str, Count],
        Meta(
            description="Currency -> events whose amount came in it and counts, other than the "
            "shop's own."
        ),
    ] = {}
    unpriced: Annotated[
        dict[str, Count],
        Meta(
            description="Currency -> events whose amount does not count, because there is no rate "
            "at or before their day."
        ),
    ] = {}
    raise_at: Annotated[
        float | None,
        Meta(description="Churn alerts are raised from this risk on."),
    ] = None
    raise_by: Annotated[
        Literal["setting", "precision", "budget"] | None,
        Meta(description="By what: churn.raise_at, or which learnt threshold is the stricter one."),
    ] = None
    expected_alerts_per_day: Annotated[
        float | None,
        Meta(
            description="Churn alerts a day of the whole shop in the treatment arm, as expected "
            "where churn.alert_budget_per_day is learnt; null: not known.",
        ),
    ] = None
