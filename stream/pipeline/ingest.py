"""Kafka records -> validated columns and refused records.

Pure: what is valid depends on the record alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from models.encoding import Row, encode_event
from models.history import Events
from models.money import AS_THEY_COME, MAX_AMOUNT, Amounts, Rates, currency_code
from schemas.codec import decode_event, validate_key
from schemas.errors import InvalidEvent, Reason
from stream.kernels.buffers import as_array
from stream.kernels.events import Bounds, Parsed, murmur2, parse_events
from stream.pipeline.event_times import Skews
from stream.pipeline.records import Records
from stream.pipeline.state import USER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from models.history import I64
    from schemas.pseudonym import Pseudonyms
    from stream.pipeline.event_times import EventTimes
    from stream.pipeline.records import Record


@dataclass(frozen=True, slots=True)
class Decoded:
    """One micro-batch of a partition: N valid events as columns, and the rest."""

    keys: list[bytes]
    """Stored key (``USER_PREFIX`` + user id or pseudonym) per event."""
    offsets: I64
    events: Events
    sources: NDArray[np.intp]
    """Event -> index of its record."""
    refused: list[tuple[int, InvalidEvent]]
    """(index of the record, why), by index."""
    timestamps: I64
    """Kafka timestamp per event, ms."""
    skews: Skews
    moved: NDArray[np.bool_]
    """Whose time is not their own, but their Kafka timestamp."""
    amounts: Amounts | None
    """Counts of the events whose amount came in another currency, None if there are none."""

    def take(self, chosen: NDArray[np.intp]) -> Decoded:
        """The chosen events, in the same order, and nothing refused."""
        return Decoded(
            keys=[self.keys[i] for i in chosen.tolist()],
            offsets=self.offsets[chosen],
            events=self.events.take(chosen),
            sources=self.sources[chosen],
            refused=[],
            timestamps=self.timestamps[chosen],
            skews=Skews(),
            moved=self.moved[chosen],
            amounts=None,
        )


class Ingest:
    """Decodes and validates the records of one partition.

    A kernel reads the plain records, which are nearly all; `decode_event` is asked for the others.
    """

    def __init__(
        self,
        *,
        partition: int,
        partitions: int,
        max_bytes: int,
        times: EventTimes,
        check_partitioner: bool,
        pseudonyms: Pseudonyms | None = None,
        rates: Rates = AS_THEY_COME,
    ) -> None:
        """With ``pseudonyms`` the stored keys are made from them; ``rates`` convert amounts.

        Partitions follow the records' own keys.
        """
        self._partition = partition
        self._partitions = partitions if check_partitioner else 0
        self._max_bytes = max_bytes
        self._times = times
        self._pseudonyms = pseudonyms
        self._rates = rates

    def decode(self, batch: Iterable[Record]) -> Decoded:
        """Decode a micro-batch; an invalid record never touches its neighbours."""
        records = Records.of(batch)
        parsed = self._parse(records)
        refused: list[tuple[int, InvalidEvent]] = []
        for index in np.flatnonzero(~parsed.plain).tolist():
            try:
                row, currency = self._decode_one(records[index].key, records[index].value)
            except InvalidEvent as error:
                refused.append((index, error))
            else:
                parsed.fill(index, row, currency)
        timestamps = records.timestamps
        bad = parsed.plain & self._times.faulty(parsed.time, timestamps)
        for index in np.flatnonzero(bad).tolist():
            cause = self._times.fault(int(parsed.time[index]), int(timestamps[index]))
            if cause is not None:
                refused.append((index, cause))
                parsed.plain[index] = False
        refused.sort(key=itemgetter(0))
        events, currencies = Events(*parsed[:-2]), parsed.currency
        sources = np.arange(len(records))
        keys: list[bytes] = records.keys  # type: ignore[assignment]  # None only where refused
        if refused:
            timestamps = timestamps[parsed.plain]
            sources = np.flatnonzero(parsed.plain)
            events, currencies = events.take(sources), currencies[sources]
            keys = [keys[index] for index in sources.tolist()]
        if self._pseudonyms is None:
            keys = [USER_PREFIX + key for key in keys]
        else:
            made = self._pseudonyms.of
            keys = [USER_PREFIX + made(key.decode()).encode() for key in keys]
        own = events.time
        events.time, skews = self._times.take(own, timestamps)
        moved = np.zeros(len(own), np.bool_) if events.time is own else events.time != own
        offsets = records.offsets[sources]
        events.amount, amounts = self._rates.convert(
            events.amount, currencies, events.time, timestamps
        )
        if events.discount.any():
            events.discount, _ = self._rates.convert(
                events.discount, currencies, events.time, timestamps
            )
        return Decoded(keys, offsets, events, sources, refused, timestamps, skews, moved, amounts)

    def _parse(self, records: Records) -> Parsed:
        """The columns of the plain records."""
        parsed = Parsed.empty(len(records))
        bounds = Bounds(self._max_bytes, MAX_AMOUNT, self._partition, self._partitions)
        parse_events(as_array(records.data), records.places, bounds, parsed)
        return parsed

    def _decode_one(self, key: bytes | None, value: bytes | None) -> tuple[Row, int]:
        """The row of one record, and the code of its currency; raises InvalidEvent."""
        event = decode_event(value, self._max_bytes)
        validate_key(key, event.user_id)
        if self._partitions:
            self._check_partition(event.user_id.encode())
        row = encode_event(event)
        if row[5] > MAX_AMOUNT:
            raise InvalidEvent(Reason.OUT_OF_RANGE, "price", "price x quantity is beyond 10**12")
        return row, currency_code(event.currency)

    def _check_partition(self, key: bytes) -> None:
        belongs = partition_of(key, self._partitions)
        if belongs != self._partition:
            raise InvalidEvent(
                Reason.WRONG_PARTITION,
                "user_id",
                f"murmur2 of the key gives partition {belongs}, the record lies in"
                f" {self._partition}: let every producer partition with murmur2 (librdkafka:"
                " partitioner=murmur2_random)",
            )


def partition_of(key: bytes, partitions: int) -> int:
    """The partition where a murmur2 producer (Java's default) puts ``key``."""
    return int((murmur2(as_array(key), 0, len(key)) & 0x7FFFFFFF) % partitions)
