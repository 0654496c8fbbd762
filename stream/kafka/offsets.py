"""Where a partition starts to read: the offset its durable state and its group agree on."""

from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.errors import OffsetError
from stream.kafka.clients import failure_of, stop_consumer

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SourceOffsets:
    """What the broker says about a source partition."""

    committed: int | None
    """Offset that the group has committed."""
    begin: int
    end: int
    """End of what a read_committed consumer may see."""


async def source_offsets(
    client_options: dict[str, Any], group: str, tp: TopicPartition
) -> SourceOffsets:
    """Ask the broker; only after the partition's earlier owner is shut out.

    Raises:
        ClusterUnreachable: it does not answer.
        OffsetError: it refuses to tell.
    """
    consumer = AIOKafkaConsumer(
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        **client_options,
    )
    try:
        await consumer.start()
        consumer.assign([tp])
        committed = await consumer.committed(tp)
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
    except KafkaError as error:
        raise failure_of(error, OffsetError)(
            f"{tp.topic}-{tp.partition}: the broker does not tell the offsets of group {group}:"
            f" {error!r}"
        ) from error
    finally:
        await stop_consumer(consumer)
    return SourceOffsets(committed, begin, end)


def starting_offset(tp: TopicPartition, known: SourceOffsets, state_offset: int) -> int:
    """Return the offset to start from.

    Both the group's offset and the state's are durable; with exactly once they are equal. The group
    may lag (at least once) or have forgotten (a long pause), so the state's wins; it may also have
    been moved forward by an operator, so the greater one wins. Reading from an earlier one would
    only skip what is already applied.

    Args:
        tp: names the place in messages.
        known: what the broker says.
        state_offset: next offset according to the recovered state, -1 if none.

    Raises:
        OffsetError: the log ends before that offset: the topic is another one than it was.
    """
    where = f"{tp.topic}-{tp.partition}"
    committed = -1 if known.committed is None else known.committed
    wanted = max(committed, state_offset)
    if committed > state_offset >= 0:
        log.warning(
            "the group is ahead of the state: events in between are skipped",
            partition=where,
            group=committed,
            state=state_offset,
        )
    if wanted > known.end:
        raise OffsetError(
            f"{where}: the state was built up to offset {wanted} but the topic ends at"
            f" {known.end}: it was deleted and created again; use a new app_id for the new topic"
        )
    if wanted < known.begin:
        if wanted >= 0:
            log.warning(
                "events were deleted by retention before they were read",
                partition=where,
                lost=known.begin - wanted,
            )
        return known.begin
    return wanted
