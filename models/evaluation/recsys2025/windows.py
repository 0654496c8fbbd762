"""The challenge's split of time: what is known, 14 days to learn labels from, 14 to evaluate on.

As `data_utils/split_data.py` of Synerise/recsys2025 at e91c1a6: the end is the last purchase; the
two windows are whole days, the last of which is that of the end. The clients are described by what
lies before both windows, so the labels of the evaluation begin 14 days after the last event known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.history import I64

DAY: Final = 86_400_000
WINDOW_DAYS: Final = 14
WINDOW: Final = WINDOW_DAYS * DAY

TRAIN: Final = 0
"""The window whose labels may be learnt from."""
TEST: Final = 1
"""The window whose labels are evaluated on."""


@dataclass(frozen=True)
class Windows:
    """Two windows in a row, ms."""

    cut: int
    """Begin of the training window: what is earlier is known."""
    middle: int
    """End of the training window, begin of the evaluation window."""
    last: int
    """Last time of the evaluation window, in it."""

    @classmethod
    def before(cls, last: int) -> Windows:
        """The windows that end with the last purchase, ms."""
        cut = (last - (2 * WINDOW_DAYS - 1) * DAY) // DAY * DAY
        return cls(cut, cut + WINDOW, last)

    def of(self, time_N: I64) -> NDArray[np.int8]:
        """TRAIN or TEST for times in a window, -1 for others."""
        found = np.full(len(time_N), -1, np.int8)
        found[(time_N >= self.cut) & (time_N < self.middle)] = TRAIN
        found[(time_N >= self.middle) & (time_N <= self.last)] = TEST
        return found

    def __str__(self) -> str:
        days = (
            str(np.datetime64(each, "ms").astype("datetime64[D]"))
            for each in (self.cut, self.middle, self.last)
        )
        return "known before {}, labels to learn from before {}, evaluated up to {}".format(*days)
