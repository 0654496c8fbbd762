"""Which events of a log decide labels: orders, not their lines, and none that was given back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.history import I64, Events, Records, SessionRules
from models.kernels.columns import EventColumns
from models.kernels.deciding import deciding_orders
from models.kernels.places import Table


@dataclass(frozen=True, slots=True)
class Deciding:
    """What N events mean to labels."""

    counts: NDArray[np.bool_]
    """[N] Whether the event decides: of an order the first line, unless it was given back."""
    amount: I64
    """[N] What it stands for, 1 / AMOUNT_UNIT: of an order its lines less what was given back."""
    gone: NDArray[np.bool_]
    """[N] Whether it is the first line of an order that was given back."""

    def take(self, index: NDArray[np.intp]) -> Deciding:
        """The events at `index`, in that order."""
        return Deciding(self.counts[index], self.amount[index], self.gone[index])


def deciding(
    records: Records,
    rows: NDArray[np.intp],
    events: Events,
    rules: SessionRules,
    window_ms: int,
) -> Deciding:
    """Which of N events, in order of row (user), time and id, decide labels.

    Args:
        records: histories before the events, not changed.
        rows: [N] record of each event.
        events: the events.
        rules: when an order without an id ends.
        window_ms: an order that is given back within this time after its first line is none; 0:
            each is one.
    """
    counts, gone = np.empty(len(rows), np.bool_), np.empty(len(rows), np.bool_)
    columns = EventColumns.of(events)
    amount = deciding_orders(Table.of(records), rows, columns, rules.gap, window_ms, counts, gone)
    if window_ms == 0:
        gone[:] = False
    return Deciding(counts & ~gone, amount, gone)
