"""What of a model's numbers goes into a prediction, and where.

Most targets go there as they are. The bins of a hazard (`models.survival`) mean little one by one:
what follows from them is told, the expected wait and the probability of no purchase within each
horizon. Pure.

Shapes: N predictions, K targets of the model, S probabilities that are told.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.survival import Bins, expected_wait, survival_at_edges
from stream.kernels.predictions import DIGITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.features import F32
    from models.history import I64
    from models.targets import Target

_NO_WAITS: Final = np.empty(0, np.int64)
_REMEMBERED: Final = 64


@dataclass(frozen=True)
class Readout:
    """How the numbers of one kind of model are told."""

    targets: tuple[Target, ...]
    """Those that are told as they are, in the order of the model."""
    columns: tuple[int, ...]
    """Where they are among the model's."""
    bins: Bins | None
    """Its hazards, None if it has none."""

    def read(self, probabilities_NK: F32) -> tuple[I64, I64]:
        """(probabilities [N,S] in units of the last decimal, expected waits in ms).

        First those of `targets`, then of no purchase until the end of each bin. Without hazards
        there are no waits: an empty array.
        """
        if self.bins is None:
            return _units(probabilities_NK.astype(np.float64)), _NO_WAITS
        hazards_NJ = self.bins.hazards(probabilities_NK)
        plain = probabilities_NK[:, self.columns].astype(np.float64)
        told = np.concatenate([plain, survival_at_edges(hazards_NJ)], axis=1)
        waits = np.rint(expected_wait(hazards_NJ, self.bins.edges_ms)).astype(np.int64)
        return _units(told), waits


@functools.lru_cache(_REMEMBERED)
def readout_of(targets: tuple[Target, ...]) -> Readout:
    """How a model with these targets is told."""
    bins = Bins.of(targets)
    hidden = () if bins is None else bins.columns
    columns = tuple(column for column in range(len(targets)) if column not in hidden)
    return Readout(tuple(targets[column] for column in columns), columns, bins)


def _units(probabilities: NDArray[np.float64]) -> I64:
    return np.rint(probabilities * 10**DIGITS).astype(np.int64)
