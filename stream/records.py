"""Records of one source partition as columns; an object per record only for who asks for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

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

    __slots__ = ("keys", "offsets", "timestamps", "values")

    def __init__(
        self,
        keys: list[bytes | None],
        values: list[bytes | None],
        offsets: I64,
        timestamps: I64,
    ) -> None:
        """Take over columns of equal length; timestamps in ms."""
        self.keys = keys
        self.values = values
        self.offsets = offsets
        self.timestamps = timestamps

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """Return `records` as columns: themselves, if they are."""
        if isinstance(records, cls):
            return records
        rows = list(records)
        return cls(
            [row.key for row in rows],
            [row.value for row in rows],
            np.array([row.offset for row in rows], np.int64),
            np.array([row.timestamp for row in rows], np.int64),
        )

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Self: ...

    def __getitem__(self, place: int | slice) -> Row | Self:
        if isinstance(place, slice):
            return type(self)(
                self.keys[place], self.values[place], self.offsets[place], self.timestamps[place]
            )
        return Row(
            int(self.offsets[place]),
            int(self.timestamps[place]),
            self.keys[place],
            self.values[place],
        )

    def from_offset(self, offset: int) -> Self:
        """Return those at `offset` and behind."""
        return self[int(np.searchsorted(self.offsets, offset)) :]
