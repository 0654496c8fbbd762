"""Events of many users -> new histories and hidden states, and what each event leads to.

Users whose events of this batch arrive in order and are all new (nearly all) go through together,
without a loop. The others are walked event by event; both ways end in the same state and the same
scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.apply import apply_in_order
from models.features import event_inputs, profile, ring_inputs
from models.history import Snapshot, snapshot
from models.insertion import has_place, holds, insert
from stream.hidden import Context, Runs, ScorerLike, carry, context_of, joined, no_context, refresh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.features import F32
    from models.history import I64, Events, Records, SessionRules

    Rows = NDArray[np.intp]

# The hidden state stays until the states are computed: events before the silence still need it.
_FORGOTTEN_KEEPS = ("layout", "ring_size", "hidden_size", "offset", "indexed_due", "hidden")


@dataclass(frozen=True, slots=True)
class TimeRules:
    """When an event still counts; ms."""

    sessions: SessionRules
    grace: int
    ttl: int
    """A user silent for longer starts from nothing; 0 = never."""


@dataclass(slots=True)
class Judged:
    """What became of N events.

    Indexes are places in the batch; the arrays run over the accepted events, in order of arrival.
    """

    accepted: Rows
    offsets: I64
    snapshot: Snapshot
    hidden: F32
    profile: F32
    probabilities: F32
    """Per accepted event one row [K], at silence 0."""
    duplicates: list[int]
    late: list[tuple[int, int]]
    """(index, ms behind the user's latest event)."""
    replayed: list[int]
    """Events at or below their user's own offset: applied before a crash."""


@dataclass(slots=True)
class _Walk:
    """What walking the disordered users produced, with the operations on each hidden state."""

    operations: list[list[_Operation]] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    late: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Operation:
    """A run of in-order events, or a rebuild after an insertion; ``fresh``: from nothing."""

    row: int
    events: list[int]
    snapshot: Snapshot
    ids: I64
    nums: F32
    context: Context | None
    """Of a run by a model without recurrence: the events before it."""
    rebuild: bool
    fresh: bool


def judge(
    records: Records, rows: Rows, offsets: I64, events: Events, scorer: ScorerLike, rules: TimeRules
) -> Judged:
    """Apply N events in order of arrival to ``records[rows]``, in place."""
    replayed = offsets <= records["offset"][rows]
    live = np.flatnonzero(~replayed)
    refresh(records, np.unique(rows[live]), scorer)

    by_row = live[np.argsort(rows[live], kind="stable")]
    plain = _in_order(records, rows[by_row], events.take(by_row), rules)
    fast, slow = by_row[plain], by_row[~plain]

    runs = Runs.of(rows[fast])
    context = context_of(records, runs.rows, scorer)
    trace = apply_in_order(records, rows[fast], events.take(fast), rules.sessions)
    hidden = carry(records, runs, *event_inputs(trace), scorer, context)
    walk = _walk(records, rows, slow, events, rules, scorer)
    parts = [(fast, trace.snapshot, hidden), *_rounds(records, walk, scorer)]

    accepted = np.concatenate([part[0] for part in parts])
    arrival = np.argsort(accepted, kind="stable")
    after = Snapshot.join([part[1] for part in parts]).take(arrival)
    hidden_NH = np.concatenate([part[2] for part in parts])[arrival]
    accepted = accepted[arrival]
    records["offset"][rows[accepted]] = offsets[accepted]
    profiles = profile(after, after.last_time)
    return Judged(
        accepted,
        offsets[accepted],
        after,
        hidden_NH,
        profiles,
        scorer.probabilities(hidden_NH, profiles),
        sorted(walk.duplicates),
        sorted(walk.late),
        np.flatnonzero(replayed).tolist(),
    )


def _in_order(records: Records, rows: Rows, events: Events, rules: TimeRules) -> NDArray[np.bool_]:
    """Which events, adjacent per row, belong to users whose events can all be appended."""
    if len(rows) == 0:
        return np.empty(0, np.bool_)
    runs = Runs.of(rows)
    last_time, last_id = records["last_time"][runs.rows], records["last_id"][runs.rows]
    previous_time, previous_id = np.empty_like(events.time), np.empty_like(events.id)
    previous_time[1:], previous_id[1:] = events.time[:-1], events.id[:-1]
    previous_time[runs.starts], previous_id[runs.starts] = last_time, last_id
    known = np.ones(len(rows), np.bool_)
    known[runs.starts] = records["n"][runs.rows] > 0
    pause = events.time - previous_time
    bad = known & ((pause < 0) | ((pause == 0) & (events.id <= previous_id)))
    if rules.ttl:
        bad |= known & (pause > rules.ttl)
    bad |= (records["ring"]["id"][rows] == events.id[:, None]).any(axis=1)
    if len(runs.rows) < len(rows):
        order = np.lexsort((events.id, rows))
        twin = (np.diff(rows[order]) == 0) & (events.id[order][1:] == events.id[order][:-1])
        bad[order[1:][twin]] = True
    return ~np.repeat(np.logical_or.reduceat(bad, runs.starts), runs.sizes)


def _walk(
    records: Records,
    rows: Rows,
    slow: Rows,
    events: Events,
    rules: TimeRules,
    scorer: ScorerLike,
) -> _Walk:
    walk = _Walk()
    for run in np.split(slow, np.flatnonzero(np.diff(rows[slow])) + 1) if len(slow) else ():
        _Walker(records, int(rows[run[0]]), events, rules, scorer, walk).walk(run.tolist())
    return walk


class _Walker:
    """Walks the events of one user in order of arrival."""

    def __init__(
        self,
        records: Records,
        row: int,
        events: Events,
        rules: TimeRules,
        scorer: ScorerLike,
        walk: _Walk,
    ) -> None:
        self.records, self.row, self.record = records, row, records[row]
        self.events, self.rules, self.scorer, self.out = events, rules, scorer, walk
        self.operations: list[_Operation] = []
        self.pending: list[int] = []
        self.fresh = False
        self.last: tuple[int, int] | None = None
        if self.record["n"]:
            self.last = (int(self.record["last_time"]), int(self.record["last_id"]))

    def walk(self, run: list[int]) -> None:
        for index in run:
            self._take(index, int(self.events.time[index]), int(self.events.id[index]))
        self._flush()
        if self.operations:
            self.out.operations.append(self.operations)

    def _take(self, index: int, time: int, event_id: int) -> None:
        ttl = self.rules.ttl
        if self.last is not None and ttl and time - self.last[0] > ttl:
            self._flush()
            self._forget()
        if self.last is None or (time, event_id) > self.last:
            if self._known(event_id):
                self.out.duplicates.append(index)
                return
            self.pending.append(index)
            self.last = (time, event_id)
            return
        self._flush()
        if self._known(event_id):
            self.out.duplicates.append(index)
        elif time < self.last[0] - self.rules.grace or not has_place(self.record, time, event_id):
            self.out.late.append((index, self.last[0] - time))
        else:
            insert(self.record, self.events.take(slice(index, index + 1)), self.rules.sessions)
            self.last = (int(self.record["last_time"]), int(self.record["last_id"]))
            self._rebuild(index)

    def _known(self, event_id: int) -> bool:
        newest = self.pending[-len(self.record["ring"]) :]
        if any(int(self.events.id[i]) == event_id for i in newest):
            return True
        # Events in waiting will have pushed this many of the oldest out of the ring.
        return holds(self.record, event_id, skip=len(newest))

    def _forget(self) -> None:
        kept = {name: self.record[name].copy() for name in _FORGOTTEN_KEEPS}
        self.records[self.row] = np.zeros((), self.records.dtype)
        for name, value in kept.items():
            self.record[name] = value
        self.record["model"] = self.scorer.code
        self.last, self.fresh = None, True

    def _flush(self) -> None:
        if not self.pending:
            return
        index = np.array(self.pending, np.intp)
        rows = np.full(len(index), self.row, np.intp)
        context = context_of(self.records, rows[:1], self.scorer)
        trace = apply_in_order(self.records, rows, self.events.take(index), self.rules.sessions)
        ids, nums = event_inputs(trace)
        self._operation(self.pending, trace.snapshot, ids, nums, context, rebuild=False)
        self.pending = []

    def _rebuild(self, index: int) -> None:
        row = np.array([self.row], np.intp)
        ids, nums, used = ring_inputs(self.records, row, self.scorer.history_length)
        after = snapshot(self.records, row)
        context = None if self.scorer.recurrent else no_context(1)
        shown = slice(0, int(used[0]))
        self._operation([index], after, ids[0, shown], nums[0, shown], context, rebuild=True)

    def _operation(
        self,
        events: list[int],
        after: Snapshot,
        ids: I64,
        nums: F32,
        context: Context | None,
        *,
        rebuild: bool,
    ) -> None:
        operation = _Operation(self.row, events, after, ids, nums, context, rebuild, self.fresh)
        self.operations.append(operation)
        self.fresh = False


def _rounds(records: Records, walk: _Walk, scorer: ScorerLike) -> list[tuple[Rows, Snapshot, F32]]:
    """Carry out the operations of all walked users: the first of each together, and so on."""
    parts = []
    depth = max((len(ops) for ops in walk.operations), default=0)
    for turn in range(depth):
        now = [ops[turn] for ops in walk.operations if turn < len(ops)]
        anew = np.array([op.row for op in now if op.fresh or op.rebuild], np.intp)
        # A rebuild is a run over the whole ring from nothing, of which only the last state counts.
        records["hidden"][anew] = 0
        sizes = np.array([len(op.ids) for op in now], np.intp)
        starts = np.cumsum(sizes) - sizes
        runs = Runs(np.array([op.row for op in now], np.intp), starts, sizes)
        ids = np.concatenate([op.ids for op in now])
        nums = np.concatenate([op.nums for op in now])
        context = joined([op.context for op in now if op.context is not None])
        hidden = carry(records, runs, ids, nums, scorer, context)
        kept = np.concatenate(
            [
                np.arange(end - len(op.events), end)
                for op, end in zip(now, starts + sizes, strict=True)
            ]
        )
        events = np.concatenate([np.array(op.events, np.intp) for op in now])
        parts.append((events, Snapshot.join([op.snapshot for op in now]), hidden[kept]))
    return parts
