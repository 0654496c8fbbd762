"""A check that no input of a point knows what came after it.

The inputs at a time t, computed on a log that ends at t, must equal those computed on the whole
log, to the bit. A feature that is scaled by the log's own mean, counts to the log's end or looks at
the next event fails this. It runs on some users at the beginning of every training run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.history import SessionRules, history_dtype
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.inputs.recent import recent_along
from models.kernels.recent import SPAN
from models.log.eventlog import OrderedLog

Columns = dict[str, NDArray[Any]]
Inputs = Callable[[OrderedLog, SessionRules], Columns]
"""All inputs of N events in order: name -> [N]."""

HOUR: Final = 3_600_000
CUTS: Final = (0.25, 0.5, 0.75)
"""Shares of the events after which the log is cut."""


def inputs_of(ordered: OrderedLog, rules: SessionRules) -> Columns:
    """What the featuriser gives: event inputs, profiles at the event and an hour after it."""
    rows = np.repeat(np.arange(len(ordered.starts)), ordered.sizes)
    records = np.zeros(len(ordered.starts), history_dtype(SPAN))
    events, last = ordered.log.events, np.arange(len(rows))
    at_once, later = (
        recent_along(records, rows, events, rules, last, rows, events.time + wait)
        for wait in (0, HOUR)
    )
    trace = apply_in_order(records, rows, events, rules)
    ids, nums = features.event_inputs(trace)
    time = trace.events.time
    found: Columns = {}
    for columns, names, mark in (
        (ids, features.INT_FEATURES, ""),
        (nums, features.NUM_FEATURES, ""),
        (features.profile(trace.snapshot, at_once, time), features.PROFILE_FEATURES, " (profile)"),
        (
            features.profile(trace.snapshot, later, time + HOUR),
            features.PROFILE_FEATURES,
            " (silence)",
        ),
    ):
        found |= {f"{name}{mark}": columns[:, k] for k, name in enumerate(names)}
    return found


def check_leaks(ordered: OrderedLog, rules: SessionRules, inputs: Inputs = inputs_of) -> None:
    """Compare the inputs on the log with those on the log cut at some moments.

    Raises:
        DatasetError: they differ; names the input and the moment.
    """
    times = ordered.log.events.time
    whole = inputs(ordered, rules)
    for share in CUTS:
        moment = int(np.quantile(times, share))
        before = np.flatnonzero(times <= moment)
        cut = inputs(ordered.at(before), rules)
        for name, values in whole.items():
            if not np.array_equal(values[before], cut[name], equal_nan=True):
                differ = int((values[before] != cut[name]).sum())
                raise DatasetError(
                    f"the input {name!r} peeks into the future: for {differ} of {len(before)} "
                    f"events up to {moment} ms it is another one when the log ends there; nothing "
                    "is trained until it is mended (models/inputs/features.py)"
                )
