"""Windows of events that a ranking learns from, ends its fit by, and is judged on.

They are those that the points of the examples look through, so they see what the points see: of
the training slice nothing that came after its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.data.dataset import Examples, Index
from models.data.points import mix, uniform
from models.data.split import TRAIN, VALIDATION, TimeSplit
from models.ranking.fit import Windows

HELD_OUT: Final = 0.2
"""Share of the users from whose events nothing is learnt but which codes there are."""
_HELD_OUT_SALT: Final = 0x6E


@dataclass(frozen=True)
class NextWindows:
    """Who plays which part."""

    train: Windows
    """Of the training slice: what is learnt from."""
    stopping: Windows
    """Of the training slice too, of users who are held out: they say when to stop."""
    judging: Windows
    """What these users did after the validation slice began."""

    @property
    def past(self) -> Windows:
        """Everybody's windows of the training slice: which codes there are is counted over them."""
        one, two = self.train, self.stopping
        start, end = np.append(one.start, two.start), np.append(one.end, two.end)
        return Windows(one.ids, one.nums, start, end)


def next_windows(
    examples: Examples, split: TimeSplit, length: int, fresh: Index | None = None
) -> NextWindows:
    """The windows of examples.

    Args:
        examples: see there.
        split: the slices of time.
        length: events of a window, at most, as the examples were drawn with.
        fresh: points that are learnt from, of the training slice; None: all of that slice.
    """
    held = uniform(mix(examples.user, _HELD_OUT_SALT)) < HELD_OUT
    train = examples.of_slice(TRAIN)
    learnt = train if fresh is None else fresh
    later = examples.of_slice(VALIDATION)
    return NextWindows(
        windows_of(examples, learnt[~held[learnt]], length),
        windows_of(examples, train[held[train]], length),
        windows_of(examples, later[held[later]], length, split.edges[2]),
    )


def windows_of(examples: Examples, points: Index, length: int, after: int | None = None) -> Windows:
    """The windows that points look through, up to the last event that any of them has seen.

    Windows of a user overlap by half. Each moment is asked for in one of them only: the one that
    shows most before its truth.

    Args:
        examples: see there.
        points: some of them.
        length: of a window, in events.
        after: moments are asked for whose next event came after this time, ms; None: all.
    """
    start, last = examples.start[points], examples.event[points]
    user, seen = examples.user[points], examples.seen[points]
    begins = seen - (last - start)  # events of the user before the window
    # Of a log that goes on, the same stretch may be there twice, as far as it was known then.
    order = np.lexsort((seen, begins, user))
    user, begins = user[order], begins[order]
    whole = np.append((user[1:] != user[:-1]) | (begins[1:] != begins[:-1]), True)[: len(order)]
    start, end = start[order][whole], last[order][whole] + 1
    least = np.where(begins[whole] > 0, length - max(length // 2, 1) - 1, 0)
    if after is not None:
        early = np.append(0, np.cumsum(examples.time <= after))
        least = np.maximum(least, early[end] - early[start] - 1)
    return Windows(examples.ids, examples.nums, start, end, least)
