"""Moments at which timers would have evaluated inactive users, as points of their own.

An alert's threshold is chosen by the alerts that it would have raised. That is decided at timers,
one after the other, so points at random times of a silence do not tell it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.history import I64, Snapshot
from models.inputs.features import expected_gap
from models.log.automation import refunded_in_full

Index = NDArray[np.intp]

AT_TIMERS: Final = -(1 << 50)
"""Slots of points at timers are below, those of all others above it."""


@dataclass(frozen=True)
class TimerRules:
    """When timers evaluate an inactive user, as the settings under `churn` say."""

    gap_factor: float
    recheck_factor: float
    min_gap_ms: int
    prior_gap_ms: int
    since: int = 0
    """Earlier moments are left out, ms."""
    counted_ms: int = 0
    """Length of the window in which alerts are counted for a budget; 0: they are not."""


def timer_moments(
    state: Snapshot,
    begin: int,
    end_S: I64,
    min_orders: int,
    rules: TimerRules,
) -> tuple[Index, I64]:
    """When timers evaluate users in the silences that begin with S states.

    Args:
        state: [S] just after an event each.
        begin: moments are later than this, ms.
        end_S: [S] and earlier than this: the next event, or the end of the log, ms.
        min_orders: users with fewer are not evaluated, nor those whose money all went back.
        rules: see there.

    Returns:
        Which state, ascending, and when, ms, [Q].
    """
    wait = np.maximum(
        rules.min_gap_ms, (rules.gap_factor * expected_gap(state, rules.prior_gap_ms)).astype(int)
    ).astype(np.float64)
    wait = np.maximum(wait, 1.0)
    begin = max(begin, rules.since)
    lasts = (end_S - state.last_time).astype(np.float64)
    bought = (state.n > 0) & (state.orders >= min_orders) & ~refunded_in_full(state)
    silent = np.flatnonzero(bought & (lasts > wait))
    growth = np.log(rules.recheck_factor)
    past = np.maximum(begin - state.last_time[silent], 0) / wait[silent]
    first = np.ceil(np.log(np.maximum(past, 1.0)) / growth)
    last = np.floor(np.log(lasts[silent] / wait[silent]) / growth)
    counts = np.maximum(last - first + 1, 0).astype(np.int64)
    which = np.repeat(silent, counts)
    step = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    grown = rules.recheck_factor ** (np.repeat(first, counts) + step)
    now = state.last_time[which] + (wait[which] * grown).astype(np.int64)
    inside = (now > begin) & (now < end_S[which])
    return which[inside], now[inside]
