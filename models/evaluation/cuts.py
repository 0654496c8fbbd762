"""Users at fixed moments ("cuts"): what was known of each just before, and what came after.

A history ends before the cut and a label begins with it, so an event at the very time of a cut is
part of the label. Inputs come from `models.inputs.apply` and `models.inputs.features`, as in
serving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Examples
from models.data.spend import shares
from models.data.split import CALIBRATION, SLICES, STOPPING, TRAIN, VALIDATION
from models.errors import EvaluationError
from models.evaluation.moments import Histories
from models.history import PURCHASE, Trace
from models.inputs import features
from models.log.eventlog import EventLog, OrderedLog
from models.targets import ABSENT, AMOUNT, Target

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]

CALIBRATION_SHARE = 0.15
"""Share of the users whose points at the training cuts calibrate."""
STOPPING_SHARE = 0.1
"""Share of the users whose points there end the fits that go on until they are ended."""


@dataclass(frozen=True)
class Protocol:
    """When is looked, at whom, and what for."""

    target: Target
    train: tuple[int, ...]
    """Cuts to learn from, ms, ascending; their labels end before `test` begins."""
    test: tuple[int, ...]
    """Cuts to judge at, ms."""
    buyers_only: bool = False
    """Whether only users with a purchase count."""
    known_ms: int = 0
    """How long ago a user's first event must be, at least."""
    half_life_ms: int | None = None
    """Age at which a training cut counts half; None: all count the same."""


@dataclass(frozen=True)
class CutPoints:
    """The points of a protocol; Q points in all."""

    examples: Examples
    cut: I64
    """[Q] ms."""
    last_seen: I64
    """[Q] time of the last event known, for the test of leaks."""

    @property
    def user(self) -> NDArray[np.uint64]:
        """[Q] hash of the user."""
        return self.examples.user

    def of_slice(self, which: int) -> Index:
        """Points of one slice: TRAIN, STOPPING, CALIBRATION, or VALIDATION for the test."""
        return self.examples.of_slice(which)

    @property
    def learnt(self) -> Index:
        """Points to fit on where nothing needs to say when to stop: TRAIN and STOPPING."""
        return np.flatnonzero(np.isin(self.examples.slice, (TRAIN, STOPPING)))


def cut_points(log: EventLog, protocol: Protocol, seed: int) -> CutPoints:
    """The points of a protocol; `seed` draws the users who calibrate and those who stop.

    Raises:
        EvaluationError: there are no users, one class only, or a label reaches over the test's
            beginning or the end of the data.
    """
    _check(log, protocol)
    histories = Histories.of(log)
    ordered, rows, trace = histories.ordered, histories.rows, histories.trace
    drawn = np.random.default_rng(seed).random(len(ordered.starts))
    held_out = np.select(
        [drawn < CALIBRATION_SHARE, drawn < CALIBRATION_SHARE + STOPPING_SHARE],
        [CALIBRATION, STOPPING],
        TRAIN,
    )
    parts = []
    for cut in (*protocol.train, *protocol.test):
        learnt = cut in protocol.train
        event, row = _last_before(ordered, trace, cut, protocol)
        if len(event) == 0:
            raise EvaluationError(f"nobody is known at {_day(cut)}; the protocol needs older data")
        label = _labels(trace, rows, row, cut, protocol.target)
        slices = held_out[row] if learnt else VALIDATION
        age = (max(protocol.train) - cut) if learnt else 0
        half = protocol.half_life_ms
        weight = (0.5 ** (age / half) if half else 1.0) / len(event)
        parts.append((event, row, np.full(len(event), cut), label, weight, slices))
    event, row, cut_of = (np.concatenate([part[i] for part in parts]) for i in range(3))
    label = np.concatenate([part[3] for part in parts])
    slices = np.concatenate([np.broadcast_to(part[5], len(part[0])) for part in parts])
    weight = np.concatenate([np.full(len(part[0]), part[4]) for part in parts])
    for which, name in enumerate(SLICES):
        _two_classes(label[slices == which], "test" if which == VALIDATION else name)
    examples = histories.examples(
        event,
        row,
        cut_of,
        labels_QK=label[:, None].astype(np.float32),
        weight=(weight / weight[np.isin(slices, (TRAIN, STOPPING))].mean()).astype(np.float32),
        slices=slices.astype(np.int8),
    )
    return CutPoints(examples, cut_of, ordered.log.events.time[event])


def _check(log: EventLog, protocol: Protocol) -> None:
    if len(log) == 0:
        raise EvaluationError("the log is empty: there is nothing to evaluate on")
    if max(protocol.train) + protocol.target.horizon_ms > min(protocol.test):
        raise EvaluationError(
            f"a label of the cut at {_day(max(protocol.train))} reaches beyond "
            f"{_day(min(protocol.test))}, where the test begins: choose earlier training cuts"
        )
    end = int(log.events.time.max())
    if max(protocol.test) + protocol.target.horizon_ms > end + features.DAY * 2:
        raise EvaluationError(
            f"the data ends at {_day(end)}, before the label of the cut at "
            f"{_day(max(protocol.test))} does: the horizon is longer than the data"
        )


def _last_before(
    ordered: OrderedLog, trace: Trace, cut: int, protocol: Protocol
) -> tuple[Index, Index]:
    """The last event before the cut of each user who counts, as (event, user)."""
    before = np.add.reduceat((ordered.log.events.time < cut).astype(np.int64), ordered.starts)
    row = np.flatnonzero(before > 0)
    event = ordered.starts[row] + before[row] - 1
    counts = cut - trace.snapshot.first_time[event] >= protocol.known_ms
    if protocol.buyers_only:
        counts &= trace.snapshot.orders[event] > 0
    return event[counts], row[counts]


def _labels(trace: Trace, rows: Index, row: Index, cut: int, target: Target) -> F64:
    events, users = trace.events, int(rows[-1]) + 1
    end = cut + target.horizon_ms
    hit = (events.time >= cut) & (events.time < end) & (events.type == target.event_type)
    if target.kind == AMOUNT:
        spent = np.bincount(rows[hit], events.amount[hit], users)
        return shares(np.rint(spent).astype(np.int64)[row], target.most)
    hit &= trace.begins | (events.type != PURCHASE)  # a further line of an order is no return
    occurs = np.zeros(users)
    occurs[rows[hit]] = 1.0
    return 1 - occurs[row] if target.kind == ABSENT else occurs[row]


def _two_classes(label: F64, name: str) -> None:
    if len(label) == 0 or label.min() == label.max():
        raise EvaluationError(
            f"one class only among the {len(label)} labels of the {name} slice: nothing can be "
            "learnt or judged; choose another horizon or more data"
        )


def _day(time: int) -> str:
    return str(np.datetime64(time, "ms").astype("datetime64[m]"))
