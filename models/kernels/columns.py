"""What the kernels of histories read and write: columns, one array per field."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.history import I64, Records
from models.kernels.jit import kernel

if TYPE_CHECKING:
    from models.history import Events


class Columns(NamedTuple):
    """The history fields of all records, each as one array over the rows (ring: rows x slots)."""

    first_time: I64
    last_time: I64
    last_id: NDArray[np.uint64]
    session_start: I64
    first_purchase: I64
    last_purchase: I64
    evicted_time: I64
    evicted_purchase: I64
    last_order: I64
    past_order: I64
    spend: I64
    counts: NDArray[np.uint32]
    n: NDArray[np.uint32]
    orders: NDArray[np.uint32]
    sessions: NDArray[np.uint32]
    overflow: NDArray[np.uint32]
    past_orders: NDArray[np.uint32]
    past_code: NDArray[np.uint32]
    past_units: NDArray[np.uint32]
    past_amount: NDArray[np.float64]
    past_items: NDArray[np.uint64]
    ring_time: I64
    ring_id: NDArray[np.uint64]
    ring_item: NDArray[np.uint32]
    ring_session_age: NDArray[np.uint32]
    ring_amount: NDArray[np.float32]
    ring_category: NDArray[np.uint16]
    ring_type: NDArray[np.uint8]
    ring_flags: NDArray[np.uint8]
    ring_order: NDArray[np.uint32]
    ring_quantity: NDArray[np.uint32]

    @classmethod
    def of(cls, records: Records) -> Columns:
        """Views into ``records``."""
        ring = records["ring"]
        return cls(
            *(
                ring[name.removeprefix("ring_")] if name.startswith("ring_") else records[name]
                for name in cls._fields
            )
        )


class EventColumns(NamedTuple):
    """``Events`` as a kernel takes them."""

    time: I64
    id: NDArray[np.uint64]
    type: NDArray[np.uint8]
    item: NDArray[np.uint32]
    category: NDArray[np.uint16]
    amount: I64
    order: NDArray[np.uint32]
    quantity: NDArray[np.uint32]
    moved: NDArray[np.uint8]
    """Bits. `HISTORY`: history that was loaded. `ON_TIME`. Any other: the time is not the event's
    own; `RETIMED`: it came after the grace."""

    @classmethod
    def of(
        cls,
        events: Events,
        moved: NDArray[np.bool_] | None = None,
        came: NDArray[np.uint8] | None = None,
    ) -> EventColumns:
        """The columns of ``events``, contiguous.

        ``moved``: whose time is not their own; ``came``: marks, `HISTORY` and `ON_TIME`.
        """
        marks = np.zeros(len(events), np.uint8) if moved is None else moved.astype(np.uint8)
        if came is not None:
            marks |= came
        columns = [np.ascontiguousarray(getattr(events, name)) for name in cls._fields[:-1]]
        return cls._make([*columns, marks])


class Limits(NamedTuple):
    """When an event still counts, and how much of a history a rebuilt state sees."""

    gap: int
    """Session gap, ms."""
    longest: int
    """Longest session, ms."""
    grace: int
    """ms."""
    ttl: int
    """A user silent for longer starts from nothing, ms; 0 = never."""
    rebuilt: int
    """Newest events of which a state is rebuilt after an insertion, at most the ring; 0: no state
    is wanted."""
    recurrent: bool
    """If not, every state is made anew of the newest events."""
    most: int = 4096
    """Entries beyond the ring, at most, that are kept of a user while they are within the grace."""
    correction: int = 0
    """A purchase or refund that comes after the grace, by at most this behind its user's latest
    event, ms, counts as of that event: when it came to be known. It has to belong into the ring,
    so that a repeat of it is recognised."""
    shown: int = 0
    """Newest events that are wanted of every accepted event besides, at most the ring; 0: none."""


class After(NamedTuple):
    """Per event the aggregates of its user just after it, as in ``Snapshot``; A rows."""

    n: I64
    counts: I64
    spend: I64
    orders: I64
    sessions: I64
    first_time: I64
    last_time: I64
    session_start: I64
    first_purchase: I64
    last_purchase: I64
    last_order: I64


class Inputs(NamedTuple):
    """Per input of the recurrence what its features are computed from; M rows."""

    time: I64
    gap: I64
    session_age: I64
    amount: NDArray[np.float32]
    item: NDArray[np.uint32]
    category: NDArray[np.uint16]
    type: NDArray[np.uint8]
    first: NDArray[np.bool_]


@kernel
def room(inputs: Inputs, used: int, more: int) -> Inputs:
    """The inputs with room for ``more`` behind the ``used`` ones."""
    size = len(inputs.time)
    if used + more <= size:
        return inputs
    size = 2 * size + more
    grown = new_inputs(size)
    grown.time[:used] = inputs.time[:used]
    grown.gap[:used] = inputs.gap[:used]
    grown.session_age[:used] = inputs.session_age[:used]
    grown.amount[:used] = inputs.amount[:used]
    grown.item[:used] = inputs.item[:used]
    grown.category[:used] = inputs.category[:used]
    grown.type[:used] = inputs.type[:used]
    grown.first[:used] = inputs.first[:used]
    return grown


@kernel
def new_inputs(size: int) -> Inputs:
    """Room for so many."""
    return Inputs(
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float32),
        np.empty(size, np.uint32),
        np.empty(size, np.uint16),
        np.empty(size, np.uint8),
        np.empty(size, np.bool_),
    )
