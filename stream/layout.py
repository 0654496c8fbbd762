"""The form of stored user records: sealed, versioned, and how an older one becomes the newest.

A record is stored as its row of the table cut off behind its last used ring slot (the body), and
behind that the xxh3-64 of the body (the seal, since layout 2). The body begins with its layout and
sizes in every version.

A worker writes the newest layout only and reads all older ones: a record is migrated when it is
read and written anew when it changes. A newer one than it knows it refuses. So a rolling upgrade
needs no pause, and a worker that comes upon what a newer one wrote leaves it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from xxhash import xxh3_64_digest

from models.history import ENTRY, HEADER
from stream.errors import StateLayoutError, StoreCorrupt

LAYOUT_VERSION: Final = 2
_SEAL_BYTES: Final = 8

SERVING: Final = [
    ("layout", "<u2"),
    ("ring_size", "<u2"),
    ("hidden_size", "<u2"),
    ("status", "u1"),  # stream.alerts.Status
    ("disarmed", "u1"),  # no new alert before the next purchase
    ("offset", "<i8"),  # last source offset applied
    ("due", "<i8"),  # when a timer must look at this user, 0 = never
    ("indexed_due", "<i8"),  # where the timer index lists it: at or before `due`
    ("since", "<i8"),  # when the status was entered
    ("raised_at", "<i8"),  # when the open alert was raised
    ("cooldown_until", "<i8"),
    ("risk", "<f4"),  # at the last look
    ("raised_by", "<u4"),  # stream.alerts.Trigger of the open alert
    ("risk_model", "<u8"),  # code of the model that gave `risk`
    ("model", "<u8"),  # code of the model that `hidden` belongs to
]
_INDEXED_DUE_AT: Final = int(np.dtype(SERVING).fields["indexed_due"][1])  # type: ignore[index]


def seal(body: bytes) -> bytes:
    """The stored form of a body."""
    return body + xxh3_64_digest(body)


def _from_1(value: bytes) -> bytes:
    """Layout 1 had no seal."""
    return seal(b"\x02\x00" + value[2:])


MIGRATIONS: Final[dict[int, Callable[[bytes], bytes]]] = {1: _from_1}
"""Layout -> what makes a stored record of it one of the next layout."""


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

    def body(self, key: bytes, value: bytes) -> bytes:
        """Return the bytes of the row that a stored record holds, in the newest layout.

        Raises:
            StateLayoutError: it has other sizes, or a newer layout; names both and what to do.
            StoreCorrupt: it is not what was written.
        """
        layout, ring, hidden = np.frombuffer(value[:6].ljust(6, b"\x00"), "<u2").tolist()
        while layout in MIGRATIONS:
            value = MIGRATIONS[layout](value)
            layout += 1
        body = value[:-_SEAL_BYTES]
        if layout == LAYOUT_VERSION and xxh3_64_digest(body) != value[-_SEAL_BYTES:]:
            raise StoreCorrupt(
                f"record {key!r} is damaged: its seal does not fit its {len(value)} bytes; the"
                " local state is restored, and if that does not heal it, the changelog is damaged:"
                " use another app_id and replay the events"
            )
        if (layout, ring, hidden) == (LAYOUT_VERSION, self.ring, self.hidden):
            return body
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


def indexed_due(value: bytes) -> int | None:
    """The entry that the timer index must have for a stored record, None for none."""
    due = int.from_bytes(value[_INDEXED_DUE_AT : _INDEXED_DUE_AT + 8], "little", signed=True)
    return due or None
