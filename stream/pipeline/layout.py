"""The form of stored user records: sealed, versioned, and how an older one becomes the newest.

Layout 7 (`stream/kernels/sealing.py`): the first 8 bytes of the row of the table (layout, sizes,
status), the entry of the timer index, the rest of the row's head and the used ring slots without
their zero bytes, of few users the events beyond the ring, and the xxh3-64 of it all (the seal). A
short history is stored without the model's state, which is made of it again, to the bit. For
layouts 1 to 6 see `stream/pipeline/old_layouts.py`.

A worker writes the newest layout only and reads all older ones: a record is migrated when it is
read and written anew when it changes. A newer one than it knows it refuses. So a rolling upgrade
needs no pause, and a worker that comes upon what a newer one wrote leaves it alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.history import ENTRY, HEADER, I64
from models.kernels.xxh3 import U8
from models.overflow import Held, Overflow
from stream.errors import StateLayoutError, StoreCorrupt
from stream.kernels.buffers import cut, joined
from stream.kernels.sealing import (
    DAMAGED,
    GOOD,
    OTHER,
    SEAL_BYTES,
    Places,
    pack_rows,
    packed_bound,
    slot_bound,
    unpack_overflow,
    unpack_rows,
)
from stream.pipeline.due_times import NO_DUE
from stream.pipeline.old_layouts import fill_from_stored

LAYOUT_VERSION: Final = 7
LANE: Final = 2**61
"""Entries of the timer index of users of replays are moved by this, into a lane of their own."""
_BEGIN_BYTES: Final = 6
_DUE_SINCE_3: Final = 8
_DUE: Final = struct.Struct("<q")
_NEWEST: Final = LAYOUT_VERSION.to_bytes(2, "little")

SERVING: Final = [
    ("layout", "<u2"),
    ("ring_size", "<u2"),
    ("hidden_size", "<u2"),
    ("status", "u1"),  # stream.pipeline.alerts.Status
    ("disarmed", "u1"),  # no new alert before the next purchase
    ("offset", "<i8"),  # last source offset applied
    ("due", "<i8"),  # when a timer must look at this user, 0 = never
    ("indexed_due", "<i8"),  # where the timer index lists it: at or before `due`, plus the lane
    ("since", "<i8"),  # when the status was entered
    ("raised_at", "<i8"),  # when the open alert was raised
    ("cooldown_until", "<i8"),
    ("risk", "<f4"),  # at the last look
    ("raised_by", "u1"),  # stream.pipeline.alerts.Trigger of the open alert
    ("replayed", "u1"),  # lane of the timer: 1 while the user follows a replay's clock
    ("arm", "u1"),  # of the open alert, see stream.pipeline.holdout
    ("spare", "u1"),
    ("risk_model", "<u8"),  # code of the model that gave `risk`
    ("model", "<u8"),  # code of the model that `hidden` belongs to
]
_OFFSETS: Final = {name: int(at[1]) for name, at in (np.dtype(SERVING).fields or {}).items()}
_HIDDEN_AT: Final = np.dtype(SERVING).itemsize
_ENTRY_OFFSETS: Final = {name: int(at[1]) for name, at in (ENTRY.fields or {}).items()}
_FLAGS_AT: Final = _ENTRY_OFFSETS["flags"]
_COMMON: Final = _ENTRY_OFFSETS["order"]
_LINE: Final = _ENTRY_OFFSETS["discount"]
_OVERFLOW_AT: Final = {name: int(at[1]) for name, at in (np.dtype(HEADER).fields or {}).items()}[
    "overflow"
]


def _migrated(value: bytes) -> bytes:
    """A record of an older layout in the newest. What is damaged stays damaged."""
    _, ring, hidden = _begin(value)
    layout = Layout(ring, hidden)
    table = np.zeros((1, layout.dtype.itemsize), np.uint8)
    records = table.view(layout.dtype)[:, 0]
    held = fill_from_stored(records[0], value, ring, hidden)
    if held is None:
        return _NEWEST + value[2:_BEGIN_BYTES]
    table[0, :2] = np.frombuffer(_NEWEST, np.uint8)
    overflow = Overflow(1)
    overflow.put(records, 0, held)
    return layout.packed(table, np.zeros(1, np.intp), overflow=overflow)[0]


def _begin(value: bytes) -> list[int]:
    """(layout, ring, hidden) of a stored record."""
    begin = value[:_BEGIN_BYTES].ljust(_BEGIN_BYTES, b"\x00")
    numbers: list[int] = np.frombuffer(begin, "<u2").tolist()
    return numbers


MIGRATIONS: Final = tuple(range(1, LAYOUT_VERSION))
"""Older layouts whose records are read."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies in a record of given sizes."""

    ring: int = 64
    hidden: int = 64

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The NumPy layout of one row."""
        return np.dtype(
            [*SERVING, ("hidden", "<f4", (self.hidden,)), *HEADER, ("ring", ENTRY, (self.ring,))]
        )

    @property
    def fixed(self) -> int:
        """Bytes before the ring."""
        return self.dtype.itemsize - self.ring * ENTRY.itemsize

    @property
    def places(self) -> Places:
        """What the kernels need to know of a row."""
        return Places(
            fixed=self.fixed,
            entry=ENTRY.itemsize,
            common=_COMMON,
            line=_LINE,
            flags=_FLAGS_AT,
            slots=self.ring,
            overflow=_HIDDEN_AT + 4 * self.hidden + _OVERFLOW_AT,
            due=_OFFSETS["indexed_due"],
            model=_OFFSETS["model"],
            hidden=_HIDDEN_AT,
            hidden_end=_HIDDEN_AT + 4 * self.hidden,
        )

    def packed(
        self,
        table: U8,
        rows: NDArray[np.intp],
        rebuilt: int = 0,
        overflow: Overflow | None = None,
    ) -> list[bytes]:
        """The stored form of rows of a table of bytes.

        A history of at most ``rebuilt`` events, all of them in the ring, is stored without the
        model's state. ``overflow``: what the rows hold beyond their rings; none of them anything
        unless given.
        """
        places = self.places
        records = table.view(self.dtype)[:, 0]
        events = records["n"][rows].astype(np.int64)
        held = records["overflow"][rows].astype(np.int64)
        older, purchases = np.empty(0, np.uint8), np.zeros(len(rows), np.int64)
        crowded = np.flatnonzero(held)
        if len(crowded) and overflow is not None:
            found = [overflow.of(records, row) for row in rows[crowded].tolist()]
            older = np.concatenate([one.entries for one in found]).view(np.uint8)
            purchases[crowded] = [one.purchase for one in found]
        slots = (np.minimum(events, self.ring) + held).sum() * slot_bound(places)
        out = np.empty(int(slots) + len(rows) * packed_bound(places), np.uint8)
        ends = np.empty(len(rows), np.int64)
        short = min(rebuilt, self.ring)
        pack_rows(table, rows, events, held, older, purchases, places, short, out, ends)
        return cut(out, ends)

    def unpack(
        self, keys: Sequence[bytes], values: list[bytes], table: U8, rows: NDArray[np.intp]
    ) -> dict[int, Held]:
        """Fill rows of a table of bytes, with rings of zeros, from stored records of any layout.

        Returns:
            What rows hold beyond their rings, of those that do.

        Raises:
            StateLayoutError: one has other sizes, or a newer layout; names both and what to do.
            StoreCorrupt: one is not what was written.
        """
        verdicts, held = self._unpack(values, table, rows)
        others = np.flatnonzero(verdicts == OTHER).tolist()
        if others:
            newest = [self._newest(keys[i], values[i]) for i in others]
            verdicts[others], more = self._unpack(newest, table, rows[others])
            held |= more
        for i in np.flatnonzero(verdicts != GOOD).tolist():
            raise StoreCorrupt(
                f"record {keys[i]!r} is damaged: its seal does not fit its {len(values[i])} bytes;"
                " the local state is restored, and if that does not heal it, the changelog is"
                " damaged: use another app_id and replay the events"
            )
        return held

    def _unpack(
        self, values: list[bytes], table: U8, rows: NDArray[np.intp]
    ) -> tuple[I64, dict[int, Held]]:
        expected = np.array([LAYOUT_VERSION, self.ring, self.hidden], "<u2").view(np.uint8)
        verdicts, begins = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
        data, ends = joined(values)
        unpack_rows(data, ends, expected, table, rows, self.places, verdicts, begins)
        held = {}
        for i in np.flatnonzero(begins >= 0).tolist():
            count = int(table.view(self.dtype)["overflow"][rows[i], 0])
            # Of a damaged record the count may be anything; packed, an entry has a byte at least.
            entries = np.zeros(min(count, len(values[i])), ENTRY)
            last, out = ends[i] - SEAL_BYTES, entries.view(np.uint8)
            purchase = unpack_overflow(data, begins[i], last, self.places, out)
            if purchase < 0 or len(entries) < count:
                verdicts[i] = DAMAGED
            held[int(rows[i])] = Held(entries, int(purchase))
        return verdicts, held

    def _newest(self, key: bytes, value: bytes) -> bytes:
        """A record of an older layout in the newest."""
        layout, ring, hidden = _begin(value)
        if layout in MIGRATIONS and (ring, hidden) == (self.ring, self.hidden):
            value = _migrated(value)
            layout, _, _ = _begin(value)
        if (layout, ring, hidden) == (LAYOUT_VERSION, self.ring, self.hidden):
            return value
        newer = layout > LAYOUT_VERSION
        remedy = (
            "run the release that wrote it, or a later one"
            if newer
            else "set state.ring and state.hidden_size back, or use another app_id and replay"
        )
        raise StateLayoutError(
            f"record {key!r} has layout {layout} (ring {ring}, hidden {hidden}), this worker has"
            f" layout {LAYOUT_VERSION} (ring {self.ring}, hidden {self.hidden}): {remedy}"
        )

    def row(self, key: bytes, value: bytes) -> np.void:
        """One stored record as a row; raises as `unpack`."""
        return self.whole(key, value)[0]

    def whole(self, key: bytes, value: bytes) -> tuple[np.void, Held]:
        """One stored record as a row, and what it holds beyond its ring; raises as `unpack`."""
        table = np.zeros((1, self.dtype.itemsize), np.uint8)
        held = self.unpack([key], [value], table, np.zeros(1, np.intp))
        record: np.void = table.view(self.dtype)[0, 0]
        return record, held.get(0) or Held(np.empty(0, ENTRY), int(record["evicted_purchase"]))


def indexed_due(value: bytes) -> int | None:
    """The entry that the timer index must have for a stored record, ms; None for none."""
    at = _DUE_SINCE_3 if value[0] >= 3 else _OFFSETS["indexed_due"]  # noqa: PLR2004
    return _DUE.unpack_from(value, at)[0] or None


def indexed_dues(data: U8, begins: I64, ends: I64) -> I64:
    """As `indexed_due`, of records that lie in one array: [N] ms, `NO_DUE` for none.

    Args:
        data: what holds the records.
        begins: [N] where each begins.
        ends: [N] where each ends.

    Raises:
        StoreCorrupt: one is too short to be a record.
    """
    if not len(begins):
        return np.zeros(0, np.int64)
    lengths = ends - begins
    short = lengths <= 0
    if not short.any():
        places = begins + np.where(data[begins] >= 3, _DUE_SINCE_3, _OFFSETS["indexed_due"])  # noqa: PLR2004
        short = places + _DUE.size > ends
        if not short.any():
            dues = data[places[:, np.newaxis] + np.arange(_DUE.size)].view("<i8")[:, 0]
            return np.where(dues == 0, NO_DUE, dues)
    raise StoreCorrupt(
        f"a stored user record has {lengths[short][0]} bytes, too few for any layout:"
        " the changelog is damaged; use another app_id and replay the events"
    )
