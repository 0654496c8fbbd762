"""What of a model's numbers goes into a prediction, and where.

Most targets go there as they are. The bins of a hazard (`models.survival`) mean little one by one:
what follows from them is told, the expected wait and the probability of no purchase within each
horizon. The share of an amount (`models.data.spend`) is told in currency. Pure.

Shapes: N predictions, K targets of the model, S probabilities that are told.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from models.history import AMOUNT_UNIT
from models.survival import Bins, expected_wait, survival_at_edges
from models.targets import AMOUNT
from stream.kernels.predictions import DIGITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64
    from models.inputs.features import F32
    from models.targets import Target

_NONE: Final = np.empty(0, np.int64)
_REMEMBERED: Final = 64


class Told(NamedTuple):
    """Numbers of N predictions as integers."""

    scores_NS: I64
    """Probabilities in units of the last decimal: those of `Readout.targets`, then of no purchase
    until the end of each bin."""
    waits: I64
    """Expected waits, ms; [0] of a model without hazards."""
    spend: I64
    """Expected amounts, 1 / AMOUNT_UNIT; [0] of a model without one."""


@dataclass(frozen=True)
class Readout:
    """How the numbers of one kind of model are told."""

    targets: tuple[Target, ...]
    """Those that are told as they are, in the order of the model."""
    columns: tuple[int, ...]
    """Where they are among the model's."""
    bins: Bins | None
    """Its hazards, None if it has none."""
    amount: int | None
    """Where the share of an amount is, None if it tells none."""
    most: float
    """What the share of 1 stands for, in currency units."""

    def read(self, probabilities_NK: F32) -> Told:
        """What is told of N rows of a model's probabilities."""
        if len(self.columns) == probabilities_NK.shape[1]:
            return Told(_integers(probabilities_NK, 10**DIGITS), _NONE, _NONE)
        waits = spend = _NONE
        told = probabilities_NK[:, self.columns].astype(np.float64)
        if self.bins is not None:
            hazards_NJ = self.bins.hazards(probabilities_NK)
            told = np.concatenate([told, survival_at_edges(hazards_NJ)], axis=1)
            waits = _integers(expected_wait(hazards_NJ, self.bins.edges_ms), 1)
        if self.amount is not None:
            spend = _integers(probabilities_NK[:, self.amount], self.most * AMOUNT_UNIT)
        return Told(_integers(told, 10**DIGITS), waits, spend)


@functools.lru_cache(_REMEMBERED)
def readout_of(targets: tuple[Target, ...], *, inactive: bool = False) -> Readout:
    """How a model with these targets is told.

    Args:
        targets: K, in the order of the model.
        inactive: at a timer, where targets that apply at events only (`Target.at_events`) mean
            nothing: they are left out.
    """
    bins = Bins.of(targets)
    amount = next((k for k, target in enumerate(targets) if target.kind == AMOUNT), None)
    hidden = {amount, *(() if bins is None else bins.columns)}
    hidden |= {column for column, target in enumerate(targets) if inactive and target.at_events}
    columns = tuple(column for column in range(len(targets)) if column not in hidden)
    most = 0.0 if amount is None else targets[amount].most
    return Readout(tuple(targets[column] for column in columns), columns, bins, amount, most)


def _integers(values: NDArray[Any], unit: float) -> I64:
    return np.rint(values.astype(np.float64) * unit).astype(np.int64)
