"""What the log still holds of a prediction: its user's events, and the prediction itself."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import decode
from schemas.outputs import Prediction, Source
from stream.errors import BrokerError, ExplainError
from stream.kafka.clients import stop_consumer
from stream.kafka.diagnosis import why
from stream.kafka.erased import read_erased
from stream.pipeline.records import Row

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiokafka import ConsumerRecord

    from stream.config.settings import Settings

__all__ = ["Parsed", "published_prediction", "records_of_user"]

_STALLED_MS: Final = 10_000


@dataclass(frozen=True)
class Parsed:
    """A prediction id taken apart."""

    version: str
    source: Source
    at: int | None = None
    """When the timer expired at which it was made, ms; None: at its event."""

    @classmethod
    def of(cls, prediction_id: str) -> Parsed:
        """Read "version:topic:partition:offset", with "@time" where a timer expired.

        Raises:
            ExplainError: it is none.
        """
        event, _, moment = prediction_id.partition("@")
        parts = event.rsplit(":", 3)
        known = not moment or moment.isdecimal()
        if len(parts) != 4 or not (known and parts[2].isdecimal() and parts[3].isdecimal()):  # noqa: PLR2004
            raise ExplainError(
                f"{prediction_id!r} is no prediction id: it reads version:topic:partition:offset,"
                " at a timer followed by @ and its time"
            )
        source = Source(parts[1], int(parts[2]), int(parts[3]))
        return cls(parts[0], source, int(moment) if moment else None)


async def records_of_user(settings: Settings, asked: Parsed) -> list[Row]:
    """All records of the user up to the one in question, which is the last."""
    source = asked.source
    at = TopicPartition(source.topic, source.partition)
    found = [record async for record in _read(settings, at, source.offset, source.offset + 1)]
    if not found or found[0].offset != source.offset:
        raise ExplainError(
            f"offset {source.offset} of {at.topic}-{at.partition} is not in the log any more (or"
            " not yet): only predictions whose events are kept can be made again"
        )
    key = found[0].key
    erased = await read_erased(settings)
    user = settings.privacy.stored_id((key or b"").decode("utf-8", "replace"))
    if erased.covers(user, found[0].timestamp):
        raise ExplainError(
            f"the user of offset {source.offset} of {at.topic}-{at.partition} was erased after it:"
            " nothing that was made of it is made again"
        )
    return [
        Row(record.offset, record.timestamp, record.key, record.value)
        async for record in _read(settings, at, None, source.offset + 1)
        if record.key == key and not erased.covers(user, record.timestamp)
    ]


async def published_prediction(
    settings: Settings, prediction_id: str, asked: Parsed, since: int
) -> Prediction | None:
    """The prediction as it was published, if it is kept; it came after its event."""
    needle = prediction_id.encode()
    for topic in (settings.topics.propensity, settings.topics.shadow):
        at = TopicPartition(topic, asked.source.partition)
        async with aclosing(_read(settings, at, None, None, since)) as records:
            async for record in records:
                if record.value is not None and needle in record.value:
                    prediction = decode(Prediction, record.value)
                    if prediction.prediction_id == prediction_id:
                        return prediction
    return None


async def _read(
    settings: Settings,
    at: TopicPartition,
    first: int | None,
    end: int | None,
    since: int | None = None,
) -> AsyncGenerator[ConsumerRecord]:
    """Records of a partition from an offset, a time or the beginning, to an offset or its end."""
    consumer = AIOKafkaConsumer(
        group_id=None,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **settings.kafka.client_options(),
    )
    try:
        await consumer.start()
        consumer.assign([at])
        ends = await consumer.end_offsets([at])
        stop = ends[at] if end is None else min(end, ends[at])
        if first is not None:
            consumer.seek(at, first)
        elif since is not None:
            found = (await consumer.offsets_for_times({at: since}))[at]
            if found is None:
                return
            consumer.seek(at, found.offset)
        else:
            await consumer.seek_to_beginning(at)
        while await consumer.position(at) < stop:
            for records in (await consumer.getmany(timeout_ms=_STALLED_MS)).values():
                for record in records:
                    if record.offset >= stop:
                        return
                    yield record
    except (KafkaError, OSError) as error:
        raise BrokerError(
            f"{at.topic}-{at.partition} cannot be read: {await why(settings.kafka, error)}"
        ) from error
    finally:
        await stop_consumer(consumer)
