"""Where histories lie in memory: a kernel is handed addresses, not one array per field.

numba counts references to each array that a kernel hands on to another, which costs more than what
is done of one event. An address is a number. Whoever calls a kernel with addresses keeps the arrays
behind them until it returns.

`head_at(address).n` reads and `head_at(address).n = 1` sets a field in place; fields are those of
`models/history.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core import cgutils

from models.history import ENTRY, HEADER
from models.kernels.jit import kernel, part
from models.kernels.raw import inlined

if TYPE_CHECKING:
    from models.history import Records

HEAD: Final = np.dtype(HEADER)
SEGMENT: Final = np.dtype(
    [
        ("base", "<i8"),  # where in the arena the segment begins
        ("room", "<i8"),  # entries of the segment; 0: there is none
        ("head", "<i8"),  # entries before the oldest one
        ("purchase", "<i8"),  # newest purchase, not late, before the oldest entry, ms
    ]
)
"""Of a record its part of the overflow's arena, see `models/kernels/overflow.py`."""
FILTER: Final = np.dtype([("bits", "<u4")])
FREE: Final = np.dtype([("begin", "<i8")])


class Table(NamedTuple):
    """R histories."""

    begin: int
    """Address of the first one's header."""
    stride: int
    """Bytes from one to the next."""
    ring: int
    """Bytes from a header to its ring."""
    size: int
    """Slots of a ring."""

    @classmethod
    def of(cls, records: Records) -> Table:
        """That of ``records``, which have the fields of a history among others."""
        fields: Any = records.dtype.fields
        begin = fields["first_time"][1]
        ring, ring_at = fields["ring"][:2]
        return cls(records.ctypes.data + begin, records.strides[0], ring_at - begin, ring.shape[0])


class Arena(NamedTuple):
    """What R histories hold beyond their rings; `models.overflow.Overflow` has the arrays."""

    entries: int
    """Address of K entries."""
    seen: int
    """Address of K words of 32 bits: per segment a filter of the ids that were in it."""
    segments: int
    """Address of R segments."""
    free: int
    """Address of where the free part begins."""
    size: int
    """K."""


NO_ARENA: Final = Arena(0, 0, 0, 0, 0)
"""For histories that hold a ring only."""


class History(NamedTuple):
    """One of them."""

    head: Any
    """Its header."""
    ring: int
    """Address of its ring."""
    size: int
    """Slots of its ring."""
    segment: Any
    """Its segment of the arena."""
    entries: int
    """As in `Arena`."""
    seen: int
    """As in `Arena`."""
    free: int
    """As in `Arena`."""


def record_at(dtype: np.dtype[np.void]) -> Any:
    """An address -> the record that lies there."""
    record = numba.from_dtype(dtype)

    @inlined
    def at(typing: Any, address: Any) -> Any:
        del typing, address

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            return builder.inttoptr(arguments[0], context.get_value_type(record))

        return record(types.int64), generate

    return at


head_at = record_at(HEAD)
entry_at = record_at(ENTRY)
segment_at = record_at(SEGMENT)
filter_at = record_at(FILTER)
free_at = record_at(FREE)

_ENTRY_BYTES: Final = ENTRY.itemsize
_SEGMENT_BYTES: Final = SEGMENT.itemsize
_ENTRY_TYPE: Final = numba.from_dtype(ENTRY)


@inlined
def new_entry(typing: Any) -> Any:
    """Room for one entry, until the kernel that asked for it returns."""
    del typing

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature, arguments
        return cgutils.alloca_once(builder, context.get_data_type(_ENTRY_TYPE))

    return _ENTRY_TYPE(), generate


@inlined
def zero(typing: Any, record: Any) -> Any:
    """Set all bytes of a record to 0."""
    del typing

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        cgutils.memset(builder, arguments[0], context.get_constant(types.intp, record.size), 0)
        return context.get_dummy_value()

    return types.void(record), generate


@inlined
def copy_entry(typing: Any, target: Any, source: Any) -> Any:
    """Make one entry what another one is."""
    del typing, target, source

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        one = context.get_constant(types.int64, 1)
        to, source = arguments
        cgutils.raw_memcpy(builder, to, source, one, _ENTRY_BYTES)
        return context.get_dummy_value()

    return types.void(_ENTRY_TYPE, _ENTRY_TYPE), generate


@inlined
def move_entries(typing: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy entries that lie one behind the other, by address; both places may overlap."""
    del typing, target, source, count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        to, source, count = arguments
        to, source = (builder.inttoptr(at, cgutils.voidptr_t) for at in (to, source))
        cgutils.raw_memmove(builder, to, source, count, _ENTRY_BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@part
def history(table: Table, arena: Arena, row: Any) -> History:
    """The history of a row. Compiled into its callers, as numba returns no records in tuples."""
    begin = table.begin + row * table.stride
    return History(
        head_at(begin),
        begin + table.ring,
        table.size,
        segment_at(arena.segments + row * _SEGMENT_BYTES),
        arena.entries,
        arena.seen,
        arena.free,
    )


@kernel
def slot_of(u: History, rank: Any) -> Any:
    """Slot of the ring that the event of a rank has."""
    return np.int64(np.uint32(rank) % np.uint32(u.size))


@kernel
def in_slot(u: History, slot: Any) -> Any:
    """The entry of a slot."""
    return entry_at(u.ring + slot * _ENTRY_BYTES)


@kernel
def in_arena(u: History, place: Any) -> Any:
    """The entry at a place of the arena."""
    return entry_at(u.entries + place * _ENTRY_BYTES)


@kernel
def held_from(u: History) -> Any:
    """Rank of the oldest event that is held one by one, in the overflow or the ring."""
    h = u.head
    return max(np.int64(h.n) - u.size - np.int64(h.overflow), 0)


@kernel
def of_rank(u: History, rank: Any) -> Any:
    """The entry of the event of a rank, which is held."""
    h = u.head
    first = np.int64(h.n) - u.size
    if rank >= first:
        return in_slot(u, slot_of(u, rank))
    s = u.segment
    return in_arena(u, s.base + s.head + rank - (first - np.int64(h.overflow)))
