"""Events that came late: which serving left out, and which count as of when they came.

The same rules as in `models/kernels/history.py`, over a whole log in order of arrival, so that a
training example knows of a late purchase when serving did, and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.history import (
    I64,
    LATE_LINE,
    LATE_NAMED,
    ORDER_BITS,
    OWN_UNIT,
    PURCHASE,
    REFUND,
)

if TYPE_CHECKING:
    from models.history import Events

_BLOCK: Final = 1024
"""Earlier events that are looked through at a time."""


class Corrections(NamedTuple):
    """When a purchase or refund that comes after the grace counts; `Limits.correction`."""

    bound_ms: int = 0
    """At most this much older than its user's latest event; 0: never."""
    ring: int = 64
    """It has to be among so many of its user's newest events."""


NO_CORRECTIONS: Final = Corrections()


def arrived(
    users: NDArray[np.uint64],
    events: Events,
    repeated: NDArray[np.bool_],
    grace_ms: int,
    rules: Corrections,
) -> tuple[I64, NDArray[np.bool_], int]:
    """Judge N events in order of arrival; ``repeated``: those that came before and do not count.

    Returns:
        The time [N] at which each counts, ms, which of them are late [N], and how many count as of
        when they came.
    """
    arrival = np.argsort(users, kind="stable")
    times, rank = np.unique(events.time[arrival], return_inverse=True)
    mine = users[arrival]
    user = np.cumsum(np.append(False, mine[1:] != mine[:-1]))
    # Ranks instead of times: the keys of one user stay below those of the next without overflow.
    newest = times[np.maximum.accumulate(user * len(times) + rank) - user * len(times)]
    time, event_id, kind = events.time[arrival], events.id[arrival], events.type[arrival]
    late, again = newest - time > grace_ms, repeated[arrival]
    refund = kind == REFUND
    line = (kind == PURCHASE) | refund
    corrected = 0
    first = np.searchsorted(user, user[late], side="left")
    for place, begin in zip(np.flatnonzero(late).tolist(), first.tolist(), strict=True):
        near = newest[place] - time[place] <= rules.bound_ms
        if not (line[place] and near):
            continue
        so_far = slice(begin, place + 1)
        gone = late[so_far] | again[so_far]
        keys = (time[so_far], refund[so_far], event_id[so_far])
        if _recent(*keys, gone, newest[so_far], rules.ring):
            time[place], late[place] = newest[place], False
            corrected += int(not again[place])
    at, out = np.empty_like(time), np.empty_like(late)
    at[arrival], out[arrival] = time, late
    return at, out, corrected


def late_codes(events: Events, counted: I64) -> NDArray[np.uint32]:
    """The codes [N] of the orders of events; ``counted``: as of when each counts, ms.

    See `models.orders.late_code`.
    """
    own, order = events.time // OWN_UNIT & ORDER_BITS, events.order.astype(np.int64)
    late = LATE_LINE | np.where(order != 0, LATE_NAMED | order, own)
    return np.where(counted != events.time, late, order).astype(np.uint32)


def _recent(
    time: I64,
    refund: NDArray[np.bool_],
    event_id: NDArray[np.uint64],
    gone: NDArray[np.bool_],
    newest: I64,
    ring: int,
) -> bool:
    """Whether fewer than ``ring`` of a user's events are later than the last one to arrive.

    ``gone``: which do not count; ``newest``: the latest time up to each.
    """
    end = len(time) - 1
    now, back, own = time[end], refund[end], event_id[end]
    later = 0
    while end > 0 and newest[end - 1] >= now:
        block = slice(max(0, end - _BLOCK), end)
        behind = (refund[block] > back) | ((refund[block] == back) & (event_id[block] > own))
        after = (time[block] > now) | ((time[block] == now) & behind)
        later += int((after & ~gone[block]).sum())
        if later >= ring:
            return False
        end = block.start
    return True
