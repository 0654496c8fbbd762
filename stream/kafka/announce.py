"""Roles of models on `models.published`: read, given and taken back."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final

import msgspec
from aiokafka import AIOKafkaProducer

from models.serving.artifact import MODEL_FILE
from models.serving.manifest import Manifest
from models.serving.registry import Registry
from models.serving.signing import read_signature
from schemas.codec import decode, encode
from schemas.control import ModelPublished
from schemas.errors import InvalidMessage
from stream.errors import TrainerError
from stream.kafka.diagnosis import denied
from stream.kafka.tail import open_tail
from stream.pipeline.rollout import Announced

if TYPE_CHECKING:
    from schemas.control import RecalibrationPublished, Rollout
    from stream.config.settings import Settings

_READ_S: Final = 20.0


def announcement(
    manifest: Manifest,
    signature: str | None = None,
    rollout: Rollout = "champion",
    share: float = 0.0,
    recalibration: RecalibrationPublished | None = None,
) -> ModelPublished:
    """The message that gives a published model its role."""
    return ModelPublished(
        version=manifest.version,
        digest=manifest.digests[MODEL_FILE],
        uri=manifest.version,
        architecture=manifest.architecture,
        feature_version=manifest.feature_version,
        metrics={k: v for k, v in manifest.metrics.items() if math.isfinite(v)},
        published_at=manifest.created_at,
        rollout=rollout,
        canary_share=share if rollout == "canary" else 0.0,
        signature=signature,
        recalibration=recalibration,
    )


async def announce(
    settings: Settings,
    manifest: Manifest,
    rollout: Rollout = "champion",
    share: float = 0.0,
    recalibration: RecalibrationPublished | None = None,
) -> None:
    """Send the announcement and wait until all replicas have it.

    Raises:
        TrainerError: it was not taken; the model stays in its folder.
        ArtifactError: its signature cannot be read.
    """
    folder = Registry(settings.models_dir).path(manifest.version)
    message = announcement(manifest, read_signature(folder), rollout, share, recalibration)
    try:
        await _send(settings, manifest.version, encode(message), "")
    except (OSError, RuntimeError) as error:
        raise TrainerError(
            f"model {manifest.version} is in {settings.models_dir} but is not announced on"
            f" {settings.topics.models}: {denied(error, settings.kafka) or error};"
            f" check the broker and run `intentstream models promote {manifest.version}`"
        ) from error


async def announce_recalibration(
    settings: Settings, published: ModelPublished, recalibration: RecalibrationPublished | None
) -> None:
    """Announce a model in its role once more, with another recalibration or none.

    Raises:
        TrainerError: it was not taken.
    """
    message = msgspec.structs.replace(published, recalibration=recalibration)
    try:
        await _send(settings, published.version, encode(message), "")
    except (OSError, RuntimeError) as error:
        raise TrainerError(
            f"the recalibration of {published.version} is not announced on"
            f" {settings.topics.models}: {denied(error, settings.kafka) or error}; check the broker"
            " and run `intentstream recalibrate` again"
        ) from error


async def withdraw(settings: Settings, version: str, reason: str) -> None:
    """Take a version's role back: workers go on with the champion before it.

    Raises:
        TrainerError: the cluster did not take it.
    """
    try:
        await _send(settings, version, None, reason)
    except (OSError, RuntimeError) as error:
        raise TrainerError(
            f"model {version} is not withdrawn on {settings.topics.models}:"
            f" {denied(error, settings.kafka) or error}; check the broker and run"
            f" `intentstream models rollback {version}`"
        ) from error


async def read_announced(settings: Settings) -> Announced:
    """What is announced now.

    Raises:
        BrokerError: the topic cannot be read.
        TopicLayoutError: it does not exist.
    """
    found = Announced()
    async with open_tail(settings, [settings.topics.models], from_beginning=True) as tail:
        async for records in tail.read_to_end(_READ_S):
            for record in records:
                note(found, record.key, record.value)
    return found


def note(announced: Announced, key: bytes | None, value: bytes | None) -> None:
    """Take in one record of the topic; one that cannot be read withdraws its version."""
    published = None
    if value is not None:
        with contextlib.suppress(InvalidMessage):
            published = decode(ModelPublished, value)
    announced.note((key or b"").decode("utf-8", "replace"), published)


async def _send(settings: Settings, version: str, value: bytes | None, reason: str) -> None:
    producer = AIOKafkaProducer(enable_idempotence=True, **settings.kafka.client_options())
    headers = [("reason", reason.encode())] if reason else None
    try:
        await producer.start()
        await producer.send_and_wait(
            settings.topics.models, key=version.encode(), value=value, headers=headers
        )
    finally:
        await producer.stop()
