"""Where to cut a micro-batch so that timers fire between the right events.

When timers follow the clocks of replays, they are evaluated each time a clock crosses a tick, and
a user whose timer expired is evaluated before any later event of that user. What comes out must not
depend on where batches begin and end. Users do not depend on each other, so firing late is as good
as firing in time unless a user who may be due has an event behind the crossing: only there a batch
is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64
    from stream.kernels.replays import Course

_NEVER: Final = 2**62


def cuts(
    course: Course, rows: NDArray[np.intp], due: I64, times: I64, shortest_wait: int
) -> list[int]:
    """Ends of the slices of N events between which timers must fire, N last.

    Args:
        course: where the clocks of the events' replays get to, ms.
        rows: user of each event.
        due: when each event's user is due before the first of them, 0 = never.
        times: event times.
        shortest_wait: no event sets a timer that is due sooner than this after it, ms.
    """
    count = len(rows)
    crossed = np.flatnonzero(course.crossed)
    if not len(crossed):
        return [count]
    soonest = np.where(due > 0, due, _NEVER)
    soonest = np.minimum(soonest, _earliest_before(rows, times) + shortest_wait)
    endangered = np.flatnonzero(soonest <= course.reached)
    # The last crossing before an endangered event is the last chance to look at its user.
    at = np.searchsorted(crossed, endangered, side="left") - 1
    ends = np.unique(crossed[at[at >= 0]]) + 1
    return [*ends[ends < count].tolist(), count]


def _earliest_before(rows: NDArray[np.intp], times: I64) -> I64:
    """Per event the earliest time among its user's events before it in the batch."""
    order = np.argsort(rows, kind="stable")
    at_row, at_time = rows[order], times[order]
    again = np.flatnonzero(at_row[1:] == at_row[:-1]) + 1
    starts = np.ones(len(rows), np.int64)
    starts[again] = 0
    # Each user's times lie below those of all users before: the running minimum starts anew.
    below = (np.cumsum(starts) - 1) * (int(times.max()) - int(times.min()) + 1)
    lowest = np.minimum.accumulate(at_time - below) + below
    out = np.full(len(rows), _NEVER // 2)
    out[order[again]] = lowest[again - 1]
    return out
