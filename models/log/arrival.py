"""Events that came late: which serving left out, and which count as of when they came.

The same rules as in `models/kernels/history.py`, over a whole log in order of arrival, so that a
training example knows of a late purchase when serving did, and not before. History that was loaded
counts as of when it happened: it is what serving knows from then on.
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
from models.kernels.arrival import LATE, judge_arrivals

if TYPE_CHECKING:
    from models.history import Events


class Corrections(NamedTuple):
    """When an event that comes after the grace counts all the same."""

    bound_ms: int = 0
    """A purchase or refund at most this much older than its user's latest event; 0: none."""
    ring: int = 64
    """It has to be among so many of its user's newest events, as has history that was loaded."""


NO_CORRECTIONS: Final = Corrections()


def arrived(
    users: NDArray[np.uint64],
    events: Events,
    came: NDArray[np.uint8] | None,
    grace_ms: int,
    rules: Corrections,
) -> tuple[I64, NDArray[np.bool_], int]:
    """Judge N events in order of arrival; ``came``: their marks, see `EventLog`.

    Returns:
        The time [N] at which each counts, ms, which of them are late [N], and how many count as of
        when they came.
    """
    if came is None:
        came = np.zeros(len(users), np.uint8)
    order = np.argsort(users, kind="stable")
    refund = events.type == REFUND
    line = (events.type == PURCHASE) | refund
    time = events.time.copy()
    verdicts = np.zeros(len(users), np.uint8)
    corrected = judge_arrivals(
        order,
        users,
        time,
        events.id,
        line,
        refund,
        came,
        grace_ms,
        rules.bound_ms,
        rules.ring,
        verdicts,
    )
    return time, verdicts == LATE, int(corrected)


def late_codes(events: Events, counted: I64) -> NDArray[np.uint32]:
    """The codes [N] of the orders of events; ``counted``: as of when each counts, ms.

    See `models.orders.late_code`.
    """
    own, order = events.time // OWN_UNIT & ORDER_BITS, events.order.astype(np.int64)
    late = LATE_LINE | np.where(order != 0, LATE_NAMED | order, own)
    return np.where(counted != events.time, late, order).astype(np.uint32)
