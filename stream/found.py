"""Committed records as they lie in the bytes fetched; an object only for who wants one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stream.kernels.batches import ABSENT, Places
from stream.kernels.buffers import as_array, joined
from stream.kernels.ordering import newest_in_order
from stream.records import Record, Records


@dataclass(frozen=True, slots=True)
class Found:
    """N records in offset order."""

    data: bytes
    places: Places
    """Where in ``data`` their parts lie."""

    @classmethod
    def of(cls, records: Sequence[Record]) -> Found:
        """What records of another making hold."""
        parts = [part for record in records for part in (record.key, record.value)]
        data, ends = joined(parts)
        begins = np.concatenate(([0], ends))[: len(parts)]
        begins[[part is None for part in parts]] = ABSENT
        places = Places(
            np.array([record.offset for record in records], np.int64),
            np.array([record.timestamp for record in records], np.int64),
            begins[0::2],
            ends[0::2],
            begins[1::2],
            ends[1::2],
        )
        return cls(data.tobytes(), places)

    @classmethod
    def together(cls, found: Sequence[Found]) -> Found:
        """One behind the other."""
        if len(found) == 1:
            return found[0]
        before, parts = 0, []
        for each in found:
            parts.append(each.places.moved(before))
            before += len(each.data)
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(b"".join(each.data for each in found), Places(*columns))

    def __len__(self) -> int:
        return len(self.places.offsets)

    def records(self) -> Records:
        """As columns of objects."""
        places = self.places
        keys = self._cut(places.key_begins.tolist(), places.key_ends.tolist())
        values = self._cut(places.value_begins.tolist(), places.value_ends.tolist())
        return Records(keys, values, places.offsets, places.timestamps)

    def newest(self, first_bytes: Sequence[int]) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield the newest value of each key that begins with one of these bytes, in key order."""
        places, data = self.places, self.data
        array = as_array(data)
        rows = np.flatnonzero(places.key_begins < places.key_ends)
        begins = places.key_begins[rows]
        rows = rows[(begins != ABSENT) & np.isin(array[begins], list(first_bytes))]
        rows = rows[newest_in_order(array, places.key_begins[rows], places.key_ends[rows])]
        columns = [column[rows].tolist() for column in places[2:]]
        for key_begin, key_end, begin, end in zip(*columns, strict=True):
            yield data[key_begin:key_end], data[begin:end] if begin != ABSENT else None

    def _cut(self, begins: list[int], ends: list[int]) -> list[bytes | None]:
        data = self.data
        return [
            data[begin:end] if begin != ABSENT else None
            for begin, end in zip(begins, ends, strict=True)
        ]
