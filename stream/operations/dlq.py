"""Bringing dead letters back, each at most once.

A replay writes the events and a note per dead letter in one transaction, and reads the notes before
it begins: run twice, killed half way, or started by two people at once, it brings no letter back a
second time. The notes lie in a compacted topic of their own (`Settings.replayed`), by the source of
the letter. What comes back is an ordinary event: one that is older than the grace will be late (a
purchase or refund: older than state.correction_ms), unless it is so old that it is history
(worker.history_age_ms) and belongs among its user's newest events; and one whose id its user has
already sent a duplicate, or `id_reused` again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from schemas.codec import decode_event, encode
from schemas.errors import InvalidEvent
from schemas.outputs import Source
from schemas.refused import DeadLetter
from stream.errors import ClusterUnreachable, DeadLetterError
from stream.kafka.clients import stop_producer
from stream.kafka.diagnosis import denied
from stream.kafka.erased import read_erased
from stream.kafka.markers import arrived, take_over
from stream.kafka.sending import REFUSED, reason_of
from stream.kafka.topics import create_topics, replayed_topic
from stream.kafka.unheard import heard
from stream.operations.letters import NOTHING, Choice, Repair, chosen, note_key, notes, place
from stream.pipeline.event_times import EventTimes
from stream.pipeline.ingest import Ingest, partition_of

if TYPE_CHECKING:
    from stream.config.settings import Settings

_CHUNK: Final = 500
_CHUNK_BYTES: Final = 8 << 20
_ENVELOPE: Final = 64 << 10
_TRANSACTION_MS: Final = 60_000


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """That a dead letter was brought back. Key: its source."""

    source: Source
    event_id: str
    replayed_at: int
    """ms since epoch."""


@dataclass
class Replay:
    """What a replay did, in letters."""

    chosen: int = 0
    replayed: int = 0
    before: int = 0
    """Brought back by an earlier replay."""
    unrepaired: int = 0
    """Lines of the repair file without an event."""
    clipped: int = 0
    """The letter holds only the beginning of a large value: the rest lies at its source."""
    erased: int = 0
    """Of users who asked to be forgotten since."""
    refused: Counter[str] = field(default_factory=Counter)
    """Would be refused again: reason -> letters."""
    unknown: list[str] = field(default_factory=list)
    """Sources named in the repair file that are not among the chosen letters."""


async def replay(
    settings: Settings,
    choice: Choice,
    repairs: Mapping[Source, Repair] | None = None,
    *,
    dry_run: bool = False,
) -> Replay:
    """Bring the chosen letters back: repaired, or unchanged to where their user's events belong.

    Raises:
        DeadLetterError: another replay took over, or the broker does not take what is sent.
        BrokerError: no broker answers.
        TopicLayoutError: a topic does not exist.
    """
    if dry_run:
        return await _replay(settings, choice, repairs, None)
    await create_topics(settings, [replayed_topic(settings)])
    transactional_id, options = f"{settings.app_id}-dlq", settings.kafka.client_options()
    made: list[AIOKafkaProducer] = []

    def new_producer(timeout_ms: int) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            max_request_size=settings.worker.max_event_bytes + _ENVELOPE,
            **options,
        )
        made.append(producer)
        return producer

    try:
        # Ends what an earlier run left open, and shuts out one that still runs; only then the
        # notes say all.
        producer, undecided = await take_over(
            new_producer, options, transactional_id, _written(settings), _TRANSACTION_MS
        )
        _check_decided(undecided)
        await _check_partitions(settings, producer)
        return await _replay(settings, choice, repairs, producer)
    except ClusterUnreachable as missing:
        raise DeadLetterError(f"{missing}: run the replay again") from missing
    except (KafkaError, *REFUSED) as raised:
        error = reason_of(made[-1], raised) if made else raised
        if isinstance(error, (ProducerFenced, InvalidProducerEpoch)):
            raise DeadLetterError(
                "another `dlq replay` of this app has taken over; what it has not brought back,"
                " the next one will"
            ) from error
        reason = denied(error, settings.kafka) or repr(error)
        raise DeadLetterError(
            f"the replay stopped: {reason}; run it again: it goes on where it stopped"
        ) from error
    finally:
        for producer in made:
            await stop_producer(producer)


def _written(settings: Settings) -> list[TopicPartition]:
    """All partitions that a replay may write to."""
    topics = settings.topics
    events = [TopicPartition(topics.events, number) for number in range(topics.partitions)]
    return [*events, TopicPartition(settings.replayed, 0)]


def _check_decided(undecided: Mapping[TopicPartition, int | None]) -> None:
    """Whether the notes say all: a note of an open transaction is not read."""
    hidden = [f"{tp.topic}-{tp.partition}" for tp, begin in undecided.items() if begin is not None]
    if hidden:
        raise DeadLetterError(
            f"the last replay's transaction has no marker in {', '.join(hidden)}, and nothing tells"
            " whether it was committed: end it with `kafka-transactions.sh abort`, and run the"
            " replay again"
        )


async def _check_partitions(settings: Settings, producer: AIOKafkaProducer) -> None:
    """An event in another partition than its user's would be refused again."""
    topic, expected = settings.topics.events, settings.topics.partitions
    found = len(await producer.partitions_for(topic))
    if found != expected:
        raise DeadLetterError(
            f"topic {topic} has {found} partitions, not {expected}: set topics.partitions as the"
            " workers have it"
        )


async def _replay(
    settings: Settings,
    choice: Choice,
    repairs: Mapping[Source, Repair] | None,
    producer: AIOKafkaProducer | None,
) -> Replay:
    done = await notes(settings)
    erased = await read_erased(settings)
    told = Replay()
    missing = set(repairs or ())
    chunk = _Chunk(settings)
    gate = Ingest(
        partition=0,
        partitions=1,
        max_bytes=settings.worker.max_event_bytes,
        times=EventTimes.of(settings),
        check_partitioner=False,
    )
    async for letter in chosen(settings, choice):
        if repairs is not None and letter.source not in repairs:
            continue
        told.chosen += 1
        missing.discard(letter.source)
        if note_key(letter.source) in done:
            told.before += 1
            continue
        payload = _payload(letter, repairs, told)
        if payload is None:
            continue
        try:
            candidate = _admit(gate, payload, settings.worker.max_event_bytes)
        except InvalidEvent as error:
            told.refused[error.reason.value] += 1
            continue
        user_id = settings.privacy.stored_id(candidate.key.decode())
        if erased.covers(user_id, letter.timestamp or 0):
            told.erased += 1
            continue
        done.add(note_key(letter.source))
        told.replayed += 1
        chunk.add(letter.source, candidate)
        if chunk.full:
            await chunk.send(producer)
    await chunk.send(producer)
    told.unknown = sorted(map(place, missing))
    return told


def _payload(
    letter: DeadLetter, repairs: Mapping[Source, Repair] | None, told: Replay
) -> bytes | None:
    """The bytes to bring back, None if there are none, which is counted."""
    if repairs is not None:
        event = bytes(repairs[letter.source].event)
        told.unrepaired += event == NOTHING
        return None if event == NOTHING else event
    if letter.clipped:
        told.clipped += 1
        return None
    return letter.value or b""


@dataclass(frozen=True)
class _Candidate:
    """A record as the worker will meet it."""

    key: bytes
    value: bytes
    timestamp: int
    event_id: str
    offset: int = 0


def _admit(gate: Ingest, payload: bytes, max_bytes: int) -> _Candidate:
    """Judge as the worker will.

    Raises:
        InvalidEvent: it would be refused again.
    """
    event = decode_event(payload, max_bytes)
    candidate = _Candidate(
        event.user_id.encode(), payload, time.time_ns() // 1_000_000, event.event_id
    )
    for _, cause in gate.decode([candidate]).refused:
        raise cause
    return candidate


class _Chunk:
    """Events and their notes that go into one transaction."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: list[tuple[Source, _Candidate]] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self._held) >= _CHUNK or self._bytes >= _CHUNK_BYTES

    def add(self, source: Source, candidate: _Candidate) -> None:
        self._held.append((source, candidate))
        self._bytes += len(candidate.value)

    async def send(self, producer: AIOKafkaProducer | None) -> None:
        """Send all of it or nothing; without a producer forget it."""
        held, self._held, self._bytes = self._held, [], 0
        if not held or producer is None:
            return
        settings = self._settings
        async with producer.transaction():
            sent = []
            for source, event in held:
                partition = partition_of(event.key, settings.topics.partitions)
                note = Note(source=source, event_id=event.event_id, replayed_at=event.timestamp)
                topic = settings.topics.events
                sent += [
                    heard(await producer.send(topic, event.value, event.key, partition=partition)),
                    heard(await producer.send(settings.replayed, encode(note), note_key(source))),
                ]
            delivered = await asyncio.gather(*sent)
        written: dict[TopicPartition, tuple[int, int]] = {}
        for record in delivered:
            last, count = written.get(record.topic_partition, (-1, 0))
            written[record.topic_partition] = max(last, record.offset), count + 1
        await arrived(producer, written)
