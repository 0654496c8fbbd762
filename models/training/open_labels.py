"""Labels that are still open, as far as they are known: they tell of drift weeks before they close.

The label of a window of 30 days is complete after 30 days. Long before that, it is known which
users have bought, and how many should have by then: the cumulative hazard over a window is shared
out by a curve g, from 0 at its beginning to 1 at its end, so that the event has come after a time e
with probability 1 - (1 - p)^g(e) (`models.fitting.beta.so_far`). The curve is measured on complete
labels of the same target and population, over shares of the window, as users may have windows of
their own. Chapelle, "Modeling Delayed Feedback in Display
Advertising" (KDD 2014), fits labels that are still open likewise, with an exponential curve.

Shape suffixes: N examples, E steps of the curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import NOT_APPLICABLE, Examples
from models.evaluate import F64
from models.fitting.beta import so_far
from models.targets import ABSENT, OCCURS, Target

I64 = NDArray[np.int64]
Index = NDArray[np.intp]

STEPS: Final = 12
"""Pieces into which a window is cut; between them the curve is straight."""
LEAST_SHARE: Final = 1e-3
_HALVINGS: Final = 40
NO_CURVE: Final[F64] = np.linspace(0.0, 1.0, 2)
"""Of a constant hazard."""


@dataclass(frozen=True)
class Observed:
    """N labels of one target in one population at one moment."""

    rows: Index
    """[N] which examples."""
    truth: F64
    """[N] whether the event came within the window, of open labels: by now."""
    share: F64
    """[N] of the window's hazard that lies before now; 1 of complete labels."""


def may_stay_open(target: Target) -> bool:
    """Whether open labels of the target are used: one event decides them, in one window."""
    one_window = target.after_ms == 0 and not target.in_session
    return target.kind in (OCCURS, ABSENT) and one_window


def open_rows(
    examples: Examples, column: int, target: Target, until: int, least_observed: float
) -> Index:
    """Examples with a label that is open at a moment.

    Args:
        examples: with what `label_points` tells of open labels; without it there are none.
        column: of the target.
        target: see there.
        until: the moment, less the time until an event is settled, ms.
        least_observed: share of the target's (longest) window that is over, at least. Windows of
            users' own that are over are open as long as the longest one, see `label_points`.
    """
    if not examples.waited.size or not may_stay_open(target):
        return np.empty(0, np.intp)
    elapsed = until - examples.now
    chosen = (elapsed >= least_observed * target.horizon_ms) & (elapsed < target.horizon_ms)
    return np.flatnonzero(chosen & (examples.waited[:, column] != NOT_APPLICABLE))


def curve_of(came_after_N: F64, probabilities_N: F64, weights_N: F64) -> F64:
    """The shares g [E+1] of the hazard before each step of the window, from 0 to 1.

    Args:
        came_after_N: of complete labels, share of the window before the event; above 1: it did not
            come within it.
        probabilities_N: that it comes within the window, calibrated on these labels.
        weights_N: of the labels.
    """
    curve = np.linspace(0.0, 1.0, STEPS + 1)
    for step in range(1, STEPS):
        came = came_after_N <= step / STEPS
        wanted = float(weights_N @ came)
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            said = float(weights_N @ so_far(probabilities_N, np.full(len(came), middle)))
            low, high = (middle, high) if said < wanted else (low, middle)
        curve[step] = (low + high) / 2
    return np.maximum.accumulate(curve)


def share_at(curve: F64, passed_N: F64) -> F64:
    """The shares [N] of the hazard after such shares of the window, which may be over."""
    steps = np.linspace(0.0, 1.0, len(curve))
    found: F64 = np.maximum(np.interp(passed_N, steps, curve), LEAST_SHARE)
    return found


def came_after(examples: Examples, column: int, rows: Index) -> F64:
    """Shares [N] of the label windows before the event; infinite where none came so far."""
    waited, horizon = examples.waited[rows, column], examples.horizon[rows, column]
    shares: F64 = np.where(waited > 0, waited / horizon, np.inf)
    return shares


def observed(
    examples: Examples,
    column: int,
    target: Target,
    complete: Index,
    still_open: Index,
    until: int,
    curve: F64,
) -> Observed:
    """Complete and open labels of one target, each as it is known at a moment.

    Args:
        examples: see `open_rows`.
        column: of the target.
        target: see there.
        complete: rows of complete labels.
        still_open: rows of open labels.
        until: the moment, less the time until an event is settled, ms.
        curve: see `curve_of`.
    """
    truth = examples.labels[complete, column].astype(np.float64)
    truth = 1 - truth if target.kind == ABSENT else truth
    if not len(still_open):
        return Observed(complete, truth, np.ones(len(complete)))
    elapsed = until - examples.now[still_open]
    passed = np.minimum(elapsed / examples.horizon[still_open, column], 1.0)
    came = (came_after(examples, column, still_open) <= passed).astype(np.float64)
    share = share_at(curve, passed)
    return Observed(
        np.concatenate([complete, still_open]),
        np.concatenate([truth, came]),
        np.concatenate([np.ones(len(complete)), share]),
    )
