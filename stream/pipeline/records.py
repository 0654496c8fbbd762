"""Committed records of one partition as they lie in the bytes fetched; objects for who asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

from stream.kernels.batches import ABSENT, Places
from stream.kernels.blocks import Run
from stream.kernels.buffers import as_array, joined
from stream.kernels.ordering import newest_in_order

I64 = NDArray[np.int64]


class Record(Protocol):
    """The parts of a Kafka record that matter here."""

    @property
    def offset(self) -> int:
        """Place in the source partition."""

    @property
    def timestamp(self) -> int:
        """Broker or producer timestamp, ms."""

    @property
    def key(self) -> bytes | None:
        """The user id in UTF-8, if the producer did right."""

    @property
    def value(self) -> bytes | None:
        """The event as JSON, if the producer did right."""


class Row(NamedTuple):
    """One record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Records(Sequence[Row]):
    """N records in offset order; offsets need not follow each other without gaps."""

    __slots__ = ("data", "places")

    def __init__(self, data: bytes, places: Places) -> None:
        """Take over bytes, and where in them the records' parts lie."""
        self.data = data
        self.places = places

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """Return `records` in this form: themselves, if they have it."""
        if isinstance(records, cls):
            return records
        rows = list(records)
        parts = [part for row in rows for part in (row.key, row.value)]
        data, ends = joined(parts)
        begins = np.concatenate(([0], ends))[: len(parts)]
        begins[[part is None for part in parts]] = ABSENT
        places = Places(
            np.array([row.offset for row in rows], np.int64),
            np.array([row.timestamp for row in rows], np.int64),
            # Contiguous, as kernels are compiled for.
            *(part.copy() for part in (begins[0::2], ends[0::2], begins[1::2], ends[1::2])),
        )
        return cls(data.tobytes(), places)

    @classmethod
    def together(cls, several: Sequence[Records]) -> Records:
        """One behind the other."""
        if len(several) == 1:
            return several[0]
        before, parts = 0, []
        for each in several:
            parts.append(each.places.moved(before))
            before += len(each.data)
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(b"".join(each.data for each in several), Places(*columns))

    @property
    def offsets(self) -> I64:
        """[N]."""
        return self.places.offsets

    @property
    def timestamps(self) -> I64:
        """[N] ms."""
        return self.places.timestamps

    @property
    def keys(self) -> list[bytes | None]:
        """Cut out anew each time."""
        data, places = self.data, self.places
        return [
            data[begin:end] if begin != ABSENT else None
            for begin, end in zip(places.key_begins.tolist(), places.key_ends.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.places.offsets)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Self: ...

    def __getitem__(self, place: int | slice) -> Row | Self:
        if isinstance(place, slice):
            return type(self)(self.data, Places(*(column[place] for column in self.places)))
        data, places = self.data, self.places
        key_at, value_at = int(places.key_begins[place]), int(places.value_begins[place])
        return Row(
            int(places.offsets[place]),
            int(places.timestamps[place]),
            None if key_at == ABSENT else data[key_at : places.key_ends[place]],
            None if value_at == ABSENT else data[value_at : places.value_ends[place]],
        )

    def from_offset(self, offset: int) -> Self:
        """Return those at `offset` and behind."""
        return self[int(np.searchsorted(self.offsets, offset)) :]

    def newest(self, first_bytes: Sequence[int]) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield what `newest_run` finds."""
        data = self.data
        columns = [column.tolist() for column in self.newest_run(first_bytes)[1:]]
        for key_begin, key_end, begin, end in zip(*columns, strict=True):
            yield data[key_begin:key_end], data[begin:end] if begin != ABSENT else None

    def newest_run(self, first_bytes: Sequence[int]) -> Run:
        """The newest value of each key that begins with one of these bytes, in key order."""
        places, array = self.places, as_array(self.data)
        rows = np.flatnonzero(places.key_begins < places.key_ends)
        begins = places.key_begins[rows]
        rows = rows[(begins != ABSENT) & np.isin(array[begins], list(first_bytes))]
        rows = rows[newest_in_order(array, places.key_begins[rows], places.key_ends[rows])]
        return Run(array, *(column[rows] for column in places[2:]))
