"""Where a partition starts to read: the offset its durable state and its group agree on."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code

from stream.errors import OffsetError
from stream.kafka.clients import failure_of
from stream.kafka.protocol import FetchOffsets
from stream.kafka.transactions import connected, existing, first_offsets, patiently, stable_ends

_ANSWER_S: Final = 30.0
_PENDING_S: Final = 5.0
"""How long a pending transactional commit is waited for. The earlier owner is shut out by then, so
one that lasts longer lost its marker (`stream/kafka/markers.py`)."""
_POLL_S: Final = 0.05
_UNSTABLE: Final = 88
"""Error code: a transaction that is not decided yet would replace the offset."""

log = structlog.get_logger(__name__)


class PendingCommit(KafkaError):
    """A transaction that is not decided yet would replace a committed offset."""


@dataclass(frozen=True)
class SourceOffsets:
    """What the broker says about a source partition."""

    committed: int | None
    """Offset that the group has committed."""
    begin: int
    end: int
    """End of what a read_committed consumer may see."""
    pending: bool = False
    """Whether a transaction without its marker would replace `committed`."""


async def source_offsets(
    client_options: dict[str, Any], group: str, tp: TopicPartition
) -> SourceOffsets:
    """Ask the broker; only after the partition's earlier owner is shut out.

    Raises:
        ClusterUnreachable: it does not answer.
        OffsetError: it refuses to tell.
    """
    try:
        async with connected(client_options) as client:
            await existing(client, [tp])
            committed, pending = await _settled(client, group, tp)
            begin = (await patiently(client, lambda: first_offsets(client, [tp]), _ANSWER_S))[tp]
            end = (await patiently(client, lambda: stable_ends(client, [tp]), _ANSWER_S))[tp]
    except KafkaError as error:
        raise failure_of(error, OffsetError)(
            f"{tp.topic}-{tp.partition}: the broker does not tell the offsets of group {group}:"
            f" {error!r}"
        ) from error
    return SourceOffsets(committed, begin, end, pending)


async def committed_offset(
    client: AIOKafkaClient, group: str, tp: TopicPartition, *, stable: bool = True
) -> int | None:
    """Return the group's committed offset, None if there is none (KIP-447).

    Raises:
        PendingCommit: `stable` is asked for and a transaction would replace it.
        KafkaError: the coordinator does not answer, or refuses.
    """
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    request = FetchOffsets(group, [(tp.topic, [tp.partition])], stable=stable)
    try:
        answer = (await client.send(node, request)).to_object()
    except NotImplementedError as error:
        raise IncompatibleBrokerVersion(
            "the broker cannot tell stable offsets: Kafka 2.5 or newer is needed"
        ) from error
    parts = [part for topic in answer["topics"] for part in topic["partitions"]]
    found: dict[str, Any] = parts[0] if parts else {}
    code = answer["error_code"] or found.get("error_code", 0)
    if code == _UNSTABLE:
        raise PendingCommit(f"{tp.topic}-{tp.partition}")
    if code:
        raise for_code(code)(group)
    offset: int = found.get("offset", -1)
    return None if offset < 0 else offset


async def _settled(
    client: AIOKafkaClient, group: str, tp: TopicPartition
) -> tuple[int | None, bool]:
    """Return the committed offset, and whether it would still be replaced after a while."""
    deadline = asyncio.get_running_loop().time() + _PENDING_S
    while True:
        try:
            return await patiently(
                client, lambda: committed_offset(client, group, tp), _ANSWER_S
            ), False
        except PendingCommit:
            if asyncio.get_running_loop().time() > deadline:
                break
        await asyncio.sleep(_POLL_S)
    before = await patiently(
        client, lambda: committed_offset(client, group, tp, stable=False), _ANSWER_S
    )
    return before, True


def log_lost(tp: TopicPartition, position: int, begin: int) -> None:
    """Log that a topic's retention deleted records before they were read."""
    log.warning(
        "events were deleted by retention before they were read: raise the topic's retention.ms",
        partition=f"{tp.topic}-{tp.partition}",
        lost=begin - position,
        from_offset=position,
        to_offset=begin,
    )


@dataclass(frozen=True)
class Start:
    """Where a partition starts to read."""

    offset: int
    lost: int = 0
    """Offsets before it that retention deleted before they were read."""


def starting_point(tp: TopicPartition, known: SourceOffsets, state_offset: int) -> Start:
    """Return the offset to start from, and what is lost before it.

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
    if 0 <= committed < state_offset:
        log.warning(
            "the group's offset lies before the state's: the events in between are applied already"
            " and are not applied again (a new app_id would)",
            partition=where,
            group=committed,
            state=state_offset,
        )
    if state_offset < 0 < committed:
        log.warning(
            "the group has an offset and the changelog holds no state: users known before it are"
            " not known (was the changelog deleted and created again?)",
            partition=where,
            group=committed,
        )
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
        if wanted < 0:
            return Start(known.begin)
        log_lost(tp, wanted, known.begin)
        return Start(known.begin, known.begin - wanted)
    return Start(wanted)
