"""Time slices for fitting, calibrating and judging, with gaps that no label crosses.

The calibration slice is shared by users: what some say ends a fit, and the others, who had no part
in it, calibrate what came out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError

TRAIN: Final = 0
CALIBRATION: Final = 1
VALIDATION: Final = 2
STOPPING: Final = 3
GAP: Final = 4
"""Points whose label crosses the end of their slice, but is complete by the end of the log."""
SLICES: Final = ("train", "calibration", "validation", "stopping")

HOUR: Final = 3_600_000


@dataclass(frozen=True)
class TimeSplit:
    """Three consecutive slices of time; a label belongs to a slice that holds all of its window."""

    edges: tuple[int, int, int, int]
    """Start of training, of calibration, of validation, and the end of the data, ms."""
    grace_ms: int
    """How late the events of a label's window may still arrive."""

    @classmethod
    def of(
        cls,
        first: int,
        end: int,
        longest_horizon_ms: int,
        grace_ms: int,
        calibration_share: float,
        validation_share: float,
    ) -> TimeSplit:
        """Split [first, end] so that the longest horizon fits into each slice.

        Args:
            first: earliest event time, ms.
            end: time up to which the log is complete, ms.
            longest_horizon_ms: of all targets.
            grace_ms: see the attribute.
            calibration_share: share for calibration of the time in which points can lie.
            validation_share: likewise.

        Raises:
            DatasetError: the horizon is too long for the data.
        """
        gap = longest_horizon_ms + grace_ms
        usable = end - first - 3 * gap
        if usable <= 0:
            raise DatasetError(
                f"the log spans {(end - first) / HOUR:.1f} h, too little for a horizon of "
                f"{longest_horizon_ms / HOUR:.1f} h: fitting, calibrating and judging each need "
                f"one whole horizon and {grace_ms / HOUR:.1f} h until its label is final "
                f"(state.grace_ms, train.cancel_window_ms), {3 * gap / HOUR:.1f} h together; "
                "collect more events or shorten the horizons"
            )
        calibration = first + round(usable * (1 - calibration_share - validation_share)) + gap
        validation = calibration + round(usable * calibration_share) + gap
        return cls((first, calibration, validation, end), grace_ms)

    def slice_of(self, now: NDArray[np.int64]) -> NDArray[np.int8]:
        """Which slice of time each one lies in: TRAIN, CALIBRATION or VALIDATION."""
        return np.searchsorted(self.edges[1:3], now, side="left").astype(np.int8)

    def settled(self, now: NDArray[np.int64], horizon_ms: int) -> NDArray[np.bool_]:
        """Whether the label of a point at `now` is complete by the end of the data."""
        return now + horizon_ms + self.grace_ms <= self.edges[3]

    def mature(self, now: NDArray[np.int64], horizon_ms: int) -> NDArray[np.bool_]:
        """Whether the label of a point at `now` is complete within the point's own slice."""
        end = np.array(self.edges[1:])[self.slice_of(now)]
        return now + horizon_ms + self.grace_ms <= end
