"""Kafka records -> validated columns and refused records.

Pure: what is valid depends on the record alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiokafka.partitioner import murmur2

from models.encoding import Row, columns, encode_event
from schemas.codec import decode_event, validate_key
from schemas.errors import InvalidEvent, Reason
from stream.records import Records
from stream.state import USER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from models.history import I64, Events
    from schemas.pseudonym import Pseudonyms
    from stream.records import Record

MAX_AMOUNT: Final = 10**16
"""Largest price x quantity in 1 / AMOUNT_UNIT, a million million currency units: 900 such still
sum in 64 bits."""

_CHECKED_KEYS: Final = 200_000
"""Keys whose partition was checked and is remembered: murmur2 in Python costs more than all other
decoding of a record."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One micro-batch of a partition: N valid events as columns, and the rest."""

    keys: list[bytes]
    """Stored key (``USER_PREFIX`` + user id or pseudonym) per event."""
    offsets: I64
    events: Events
    sources: list[int]
    """Event -> index of its record."""
    event_ids: list[str]
    refused: list[tuple[int, InvalidEvent]]
    """(index of the record, why)."""

    def take(self, chosen: NDArray[np.intp]) -> Decoded:
        """The chosen events, in the same order, and nothing refused."""
        index = chosen.tolist()
        return Decoded(
            keys=[self.keys[i] for i in index],
            offsets=self.offsets[chosen],
            events=self.events.take(chosen),
            sources=[self.sources[i] for i in index],
            event_ids=[self.event_ids[i] for i in index],
            refused=[],
        )


class Ingest:
    """Decodes and validates the records of one partition."""

    def __init__(
        self,
        *,
        partition: int,
        partitions: int,
        max_bytes: int,
        max_future_ms: int | None,
        check_partitioner: bool,
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        """``max_future_ms`` counts from the record's own broker timestamp; None: no bound.

        With ``pseudonyms`` the stored keys are made from them; partitions follow the records' keys.
        """
        self._partition = partition
        self._partitions = partitions
        self._max_bytes = max_bytes
        self._max_future_ms = max_future_ms
        self._check_partitioner = check_partitioner
        self._checked: set[bytes] = set()
        self._pseudonyms = pseudonyms

    def decode(self, batch: Iterable[Record]) -> Decoded:
        """Decode a micro-batch; an invalid record never touches its neighbours."""
        records = Records.of(batch)
        keys: list[bytes] = []
        rows: list[Row] = []
        sources: list[int] = []
        event_ids: list[str] = []
        refused: list[tuple[int, InvalidEvent]] = []
        times = records.timestamps.tolist()
        for index, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
            try:
                event = decode_event(value, self._max_bytes)
                if key != event.user_id.encode():
                    validate_key(key, event.user_id)
                if key not in self._checked:
                    self._check(key)  # type: ignore[arg-type]
                row = encode_event(event)
                self._check_bounds(times[index], row)
            except InvalidEvent as error:
                refused.append((index, error))
                continue
            if self._pseudonyms is not None:
                keys.append(USER_PREFIX + self._pseudonyms.of(event.user_id).encode())
            else:
                keys.append(USER_PREFIX + key)  # type: ignore[operator]
            rows.append(row)
            sources.append(index)
            event_ids.append(event.event_id)
        return Decoded(keys, records.offsets[sources], columns(rows), sources, event_ids, refused)

    def forget(self, key: bytes) -> None:
        """Do not remember this record key any more."""
        self._checked.discard(key)

    def _check(self, key: bytes) -> None:
        if self._check_partitioner:
            belongs = partition_of(key, self._partitions)
            if belongs != self._partition:
                raise InvalidEvent(
                    Reason.WRONG_PARTITION,
                    "user_id",
                    f"murmur2 of the key gives partition {belongs}, the record lies in"
                    f" {self._partition}: let every producer partition with murmur2 (librdkafka:"
                    " partitioner=murmur2_random)",
                )
        if len(self._checked) >= _CHECKED_KEYS:
            self._checked.clear()
        self._checked.add(key)

    def _check_bounds(self, timestamp: int, row: Row) -> None:
        if row[5] > MAX_AMOUNT:
            raise InvalidEvent(Reason.OUT_OF_RANGE, "price", "price x quantity is beyond 10**12")
        if self._max_future_ms is not None and row[0] > timestamp + self._max_future_ms:
            ahead = row[0] - timestamp
            raise InvalidEvent(
                Reason.FUTURE,
                "event_time",
                f"{ahead} ms ahead of the record's timestamp, at most {self._max_future_ms} are"
                " accepted: check the producer's clock and unit (milliseconds)",
            )


def partition_of(key: bytes, partitions: int) -> int:
    """The partition where a murmur2 producer (Java's default) puts ``key``."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
