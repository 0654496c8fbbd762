"""Which events of a whole log serving took for late: the rules of `take_events`, without states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.history import HISTORY, I64, ON_TIME
from models.kernels.jit import kernel

LATE, CORRECTED = 1, 2
"""Verdicts; 0: in time."""


@kernel
def judge_arrivals(
    order: NDArray[np.intp],
    users: NDArray[np.uint64],
    time: I64,
    ids: NDArray[np.uint64],
    line: NDArray[np.bool_],
    refund: NDArray[np.bool_],
    came: NDArray[np.uint8],
    grace: int,
    correction: int,
    ring: int,
    verdicts: NDArray[np.uint8],
) -> Any:
    """Judge N events; how many late ones count as of when they came, repeats aside.

    Args:
        order: [N] the events user by user, of each in order of arrival.
        users: [N] their users.
        time: [N] when each happened, ms; set to when it counts.
        ids: [N] hashes of their ids.
        line: [N] which are purchases or refunds.
        refund: [N] which are refunds.
        came: [N] marks, `HISTORY` and `ON_TIME`.
        grace: ms.
        correction: `Limits.correction`, ms.
        ring: newest events of a user that a record holds one by one.
        verdicts: [N] filled with `LATE`, `CORRECTED` or 0.
    """
    times, held = np.empty(ring, np.int64), np.empty(ring, np.uint64)
    history, back = np.empty(ring, np.bool_), np.empty(ring, np.bool_)
    count, corrected = 0, 0
    newest: Any = np.int64(0)
    for k in range(len(order)):
        i = order[k]
        if k == 0 or users[i] != users[order[k - 1]]:
            count, newest = 0, time[i]
        again = False
        for place in range(count):
            again = again or held[place] == ids[i]
        own = time[i]
        old = came[i] & HISTORY != 0
        if newest - own > grace:
            front = count == ring and _before(own, refund[i], ids[i], times[0], back[0], held[0])
            on_time = came[i] & ON_TIME != 0
            if line[i] and newest - own <= correction and not front and not on_time:
                verdicts[i], time[i], old = CORRECTED, newest, False
                corrected += not again
            elif front or not (old or on_time):
                verdicts[i] = LATE
            elif not on_time:
                for place in range(count - 1, -1, -1):
                    if history[place]:
                        if times[place] - own > grace:
                            verdicts[i] = LATE
                        break
        if verdicts[i] != LATE and not again:
            count = _keep(times, back, held, history, count, time[i], refund[i], ids[i], old)
        newest = max(newest, own)
    return corrected


@kernel
def _before(
    time: int,
    refund: bool,
    event_id: np.uint64,
    other_time: int,
    other_refund: bool,
    other_id: np.uint64,
) -> Any:
    """Whether an event comes before another one in the order of `models.history.sort_key`."""
    if time != other_time:
        return time < other_time
    if refund != other_refund:
        return other_refund
    return event_id < other_id


@kernel
def _keep(
    times: I64,
    back: NDArray[np.bool_],
    held: NDArray[np.uint64],
    history: NDArray[np.bool_],
    count: int,
    time: int,
    refund: bool,
    event_id: np.uint64,
    old: bool,
) -> int:
    """Put an event where it belongs among a user's newest ones; how many there are then."""
    at = count
    while at > 0 and _before(time, refund, event_id, times[at - 1], back[at - 1], held[at - 1]):
        at -= 1
    if count < len(times):
        for place in range(count, at, -1):
            times[place], held[place] = times[place - 1], held[place - 1]
            history[place], back[place] = history[place - 1], back[place - 1]
        count += 1
    elif at == 0:
        return count
    else:
        at -= 1
        for place in range(at):
            times[place], held[place] = times[place + 1], held[place + 1]
            history[place], back[place] = history[place + 1], back[place + 1]
    times[at], held[at], history[at], back[at] = time, event_id, old, refund
    return count
