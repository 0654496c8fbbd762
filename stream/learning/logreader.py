"""The event log as the trainer reads it: from Kafka up to its present end, or from files."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from models.encoding import columns, encode_event, hash64
from models.history import ON_TIME, Events
from models.log.eventlog import EventLog
from models.log.names import Catalogue, catalogue
from models.log.spool import Spool
from models.money import AS_THEY_COME, Converter, Rates, currency_code
from schemas.codec import decode_event
from schemas.errors import InvalidEvent
from schemas.events import Event
from stream.config.rates import rates_of
from stream.config.settings import Settings
from stream.errors import TopicReplaced, TrainerError
from stream.kafka.aiokafka_private import client_of
from stream.kafka.clients import stop_consumer
from stream.kafka.diagnosis import why
from stream.kafka.erased import read_erased
from stream.kafka.offsets import log_lost
from stream.kafka.rates import current_rates
from stream.kafka.topic_ids import ask_topic_ids
from stream.kafka.topics import absent
from stream.pipeline.clocks import Clocks, ClockState
from stream.pipeline.event_times import EventTimes
from stream.pipeline.ingest import Decoded, Ingest
from stream.pipeline.records import Record
from stream.pipeline.state import USER_PREFIX
from stream.replay.adapter import AS_FOUND, Wanted
from stream.replay.report import Report
from stream.replay.source import read_rows

log = structlog.get_logger(__name__)

_POLL_MS: Final = 1_000
_STALLED_S: Final = 30.0
_POLL_RECORDS: Final = 20_000
_FETCH_BYTES: Final = 4 << 20
_FILE_ROWS: Final = 100_000
_TOPIC: Final = "topic/"
"""Begins the name under which a position notes the id (KIP-516) of the topic that it is of."""
_HASHES: Final = 1_000_000
"""Users whose hash is remembered, at most."""
PARQUET: Final = "parquet"

Count = Callable[[int, int], None]
"""Called with (records read, records to read) as reading goes on."""


@dataclass
class _Partition:
    ingest: Ingest
    clocks: Clocks
    position: int = 0

    def came(self, decoded: Decoded) -> NDArray[np.uint8]:
        """Marks of how events came, as in the worker."""
        arrivals = self.clocks.arrivals(decoded)
        marks = arrivals.marks
        if arrivals.replayed.any():
            for segment in self.clocks.follow(decoded, arrivals):
                marks[segment.lo : segment.hi] |= segment.course.on_time * np.uint8(ON_TIME)
        return marks


class KafkaLog:
    """The accepted events of the source topic. What was read once is kept; only news is fetched."""

    def __init__(self, settings: Settings) -> None:
        """Remember where to read; nothing is opened before `read`."""
        self._settings = settings
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._kept = Spool(settings.data_dir)
        self._hashes: dict[bytes, int] = {}
        self._begin: dict[str, int] = {}
        self._topic_id = ""
        self.refused: dict[str, int] = {}
        """Records that are no valid event; the worker sends the same ones to the dead letters."""
        self.names = catalogue(settings.train.rank)
        """Of what is to be ranked."""
        self.money = Converter(rates_of(settings.money))
        """Has the counts of amounts in other currencies."""

    async def read(self, count: Count | None = None) -> Spool:
        """Everything up to the topic's end as it is now, in order of arrival per user.

        Without what came before a user's request to be forgotten, also where it was read before.

        Raises:
            TopicLayoutError: the topic does not exist.
            TopicReplaced: it was deleted and created again since it was last read.
            TrainerError: no broker answers, or it stops to.
            BrokerError: as above, while rates or requests are read.
        """
        consumer = AIOKafkaConsumer(
            group_id=None,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            **self._settings.kafka.client_options(),
        )
        try:
            self._know(await self._partition_numbers())
            # Before the events, whose end is taken afterwards.
            self.money.rates.update(await current_rates(self._settings))
            await consumer.start()
            await self._check_topic(consumer)
            await self._read_from(consumer, count)
        except (KafkaError, OSError) as error:
            reason = await why(self._settings.kafka, error)
            raise TrainerError(f"cannot read {self._settings.topics.events}: {reason}") from error
        finally:
            await stop_consumer(consumer)
        warn_of_money(self.money)
        if len(self._kept):
            # After the events: what is asked for meanwhile counts too.
            erased = await read_erased(self._settings)
            if self._kept.forget(erased.keep):
                self._hashes.clear()
        return self._kept

    def drop(self) -> None:
        """Give up what was read; the next read returns what came after it."""
        self._kept.close()
        self._kept = Spool(self._settings.data_dir)

    @property
    def position(self) -> dict[str, int]:
        """Partition -> next offset to read; and the topic's id, see `_TOPIC`."""
        position = {str(where.partition): p.position for where, p in self._partitions.items()}
        return position | ({_TOPIC + self._topic_id: 0} if self._topic_id else {})

    def go_on(self, position: Mapping[str, int]) -> None:
        """Begin where another reader of the same topic stopped."""
        self._begin = dict(position)
        noted = [name.removeprefix(_TOPIC) for name in position if name.startswith(_TOPIC)]
        self._topic_id = noted[0] if noted else ""

    async def _check_topic(self, consumer: AIOKafkaConsumer) -> None:
        topic, known = self._settings.topics.events, self._topic_id
        found = await ask_topic_ids(client_of(consumer), [topic])
        self._topic_id = found.get(topic, known)
        if known and self._topic_id != known:
            self._topic_id = known
            raise TopicReplaced(
                f"{topic} was read under id {known} and has id {found[topic]} now: it was deleted"
                " and created again; nothing is changed: train with another data_dir, or without"
                " --refresh, to read the new topic from its beginning"
            )

    async def _read_from(self, consumer: AIOKafkaConsumer, count: Count | None) -> None:
        consumer.assign(list(self._partitions))
        ends = await consumer.end_offsets(list(self._partitions))
        begun = await consumer.beginning_offsets(list(self._partitions))
        for where, partition in self._partitions.items():
            if 0 < partition.position < begun[where]:
                log_lost(where, partition.position, begun[where])
            partition.position = max(partition.position, begun[where])
            consumer.seek(where, partition.position)
        total = sum(max(ends[w] - p.position, 0) for w, p in self._partitions.items())
        silent_since = asyncio.get_running_loop().time()
        while behind := [w for w, p in self._partitions.items() if p.position < ends[w]]:
            batches = await consumer.getmany(
                *behind, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS
            )
            moved = bool(batches)
            for where, records in batches.items():
                self._take(self._partitions[where], records)
            for where in behind:
                # Beyond the last record of a transaction lies its marker, which is no record.
                reached = await consumer.position(where)
                moved |= reached > self._partitions[where].position
                self._partitions[where].position = reached
            now = asyncio.get_running_loop().time()
            silent_since = now if moved else silent_since
            if now - silent_since > _STALLED_S:
                left = ", ".join(f"{w.topic}/{w.partition}" for w in behind)
                raise TrainerError(
                    f"no record of {left} for {_STALLED_S:.0f} s, though more are there: check the"
                    " broker, and for a transaction left open"
                )
            if count is not None:
                left_over = sum(max(ends[w] - p.position, 0) for w, p in self._partitions.items())
                count(total - left_over, total)

    async def _partition_numbers(self) -> list[int]:
        topic = self._settings.topics.events
        admin = AIOKafkaAdminClient(**self._settings.kafka.client_options())
        try:
            await admin.start()
            if topic not in await admin.list_topics():
                raise await absent(self._settings, [topic])
            (described,) = await admin.describe_topics([topic])
        finally:
            await admin.close()
        return sorted(entry["partition"] for entry in described["partitions"])

    def _know(self, numbers: list[int]) -> None:
        """Prepare the partitions that are new; a topic may have grown."""
        topic = self._settings.topics.events
        worker = self._settings.worker
        for number in numbers:
            where = TopicPartition(topic, number)
            if where not in self._partitions:
                ingest = Ingest(
                    partition=number,
                    partitions=len(numbers),
                    max_bytes=worker.max_event_bytes,
                    times=EventTimes.of(self._settings),
                    check_partitioner=worker.check_partitioner,
                    pseudonyms=self._settings.privacy.pseudonyms,
                    rates=self.money.rates,
                )
                clocks = Clocks(self._settings, ClockState())
                self._partitions[where] = _Partition(
                    ingest, clocks, self._begin.get(str(number), 0)
                )

    def _take(self, partition: _Partition, records: Sequence[Record]) -> None:
        decoded = partition.ingest.decode(records)
        for _, error in decoded.refused:
            note(self.refused, error)
        if decoded.amounts is not None:
            self.money.counts.add(decoded.amounts)
        if decoded.keys:
            users = np.fromiter(map(self._hash, decoded.keys), np.uint64, len(decoded.keys))
            arrived = (records[index].timestamp for index in decoded.sources)
            self._kept.append(
                EventLog(users, decoded.events, partition.came(decoded)),
                np.fromiter(arrived, np.int64, len(users)),
            )
            _note_names(self.names, decoded.events, lambda at: _event(records[decoded.sources[at]]))

    def _hash(self, key: bytes) -> int:
        found = self._hashes.get(key)
        if found is None:
            if len(self._hashes) >= _HASHES:
                self._hashes.clear()
            found = self._hashes[key] = hash64(key[len(USER_PREFIX) :].decode())
        return found


def read_files(
    spool: Spool,
    paths: Iterable[Path],
    format_name: str = "jsonl",
    count: Count | None = None,
    stored_id: Callable[[str], str] = str,
    names: Catalogue | None = None,
    wanted: Wanted = AS_FOUND,
    rates: Rates = AS_THEY_COME,
) -> dict[str, int]:
    """Append the events of files to `spool`, in their order, as if each arrived when it happened.

    Args:
        spool: takes the events.
        paths: the files.
        format_name: "parquet" for columns named as the fields of events, else as for `produce`.
        count: called as events are read.
        stored_id: gives the name under which a user is known to the workers.
        names: take note of the names of what they are for.
        wanted: how the files write dates and decimals, where they do not tell by themselves.
        rates: convert the amounts.

    Returns:
        How many lines or rows gave no event, by reason.

    Raises:
        ReplayError: a file is missing or of another format.
        DatasetError: likewise of a Parquet file.
    """
    invalid: dict[str, int] = {}
    money = Converter(rates)
    if format_name == PARQUET:
        from models.log.columnar import read_parquet  # noqa: PLC0415  # pyarrow is of an extra
    for path in paths:
        parts = (
            read_parquet(path, invalid, stored_id, names, money)
            if format_name == PARQUET
            else _read_lines(path, format_name, invalid, stored_id, names or {}, wanted, money)
        )
        for part in parts:
            spool.append(part, part.events.time)
            if count is not None:
                count(len(spool), len(spool))
    warn_of_money(money)
    return invalid


def _read_lines(
    path: Path,
    format_name: str,
    invalid: dict[str, int],
    stored_id: Callable[[str], str],
    names: Catalogue,
    wanted: Wanted,
    money: Converter,
) -> Iterator[EventLog]:
    report = Report()
    # The log is sorted by user later on: the order of the file is good enough.
    lines = read_rows(path, format_name, report, order="file", wanted=wanted)
    while chunk := [decode_event(line.value) for line in islice(lines, _FILE_ROWS)]:
        users = [hash64(stored_id(event.user_id)) for event in chunk]
        events = columns([encode_event(event) for event in chunk])
        currencies = np.array([currency_code(event.currency) for event in chunk], np.uint32)
        money.convert_events(events, currencies)
        _note_names(names, events, chunk.__getitem__)
        yield EventLog(np.array(users, np.uint64), events)
    for reason, tally in (report.unparsed | report.invalid).items():
        invalid[reason] = invalid.get(reason, 0) + tally.count


def warn_of_money(money: Converter) -> None:
    """Log what is wrong with the amounts that were read."""
    for fault in money.faults():
        log.warning("amounts", fault=fault)


def _note_names(names: Catalogue, events: Events, event_at: Callable[[int], Event]) -> None:
    """Take note of the names in events, of which the whole is asked for by place."""
    for what, known in names.items():
        known.add(getattr(events, what), partial(_name_at, event_at, what))


def _name_at(event_at: Callable[[int], Event], what: str, place: int) -> str:
    name: str = getattr(event_at(place), f"{what}_id")
    return name


def _event(record: Record) -> Event:
    """An accepted record as an event."""
    value = record.value or b""
    return decode_event(value, len(value))


def note(counts: dict[str, int], error: InvalidEvent) -> None:
    """Count a refused record by reason and field."""
    reason = error.reason.value
    name = f"{reason} ({error.field})" if error.field else reason
    counts[name] = counts.get(name, 0) + 1
