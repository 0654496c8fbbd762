"""What the kernels of histories read and write: columns, one array per field."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.history import I64
from models.kernels.jit import kernel

if TYPE_CHECKING:
    from models.history import Events


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
    discount: I64
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
    """If not, every state is made again of the newest events."""
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
    refunded: I64
    discount: I64
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


class Taken(NamedTuple):
    """What became of N events: A accepted ones, of E of which a state is wanted."""

    verdict: NDArray[np.uint8]
    """[N]"""
    late_by: I64
    """[N] ms behind the user's latest event, of those that are late."""
    differs: NDArray[np.uint8]
    """[N] Of each reused id the fields that differ (`models.kernels.repeats.differing`)."""
    accepted: I64
    """[A]"""
    forgotten: NDArray[np.bool_]
    """[A] The event came after the time to live: its history begins with it."""
    after: After
    """The first A rows count."""
    scored: I64
    """[E] Of which of the accepted ones a state is wanted, rising."""
    latest: NDArray[np.bool_]
    """[E] Whether it is the last one of its record."""
    before: I64
    """[E] As in ``Steps``, of the E."""
    recent: NDArray[np.float32]
    """[E,R] `models.kernels.recent.RECENT_FEATURES` of its user at its latest event."""
    start: I64
    """[E] As in ``Steps``."""
    inputs: Inputs
    used: int
    """So many of the inputs count."""
    shown: I64
    """[E] Where in ``windows`` the newest events up to each one begin; 0 where none are wanted."""
    windows: Inputs
    seen: int
    """So many of the windows' inputs count."""
