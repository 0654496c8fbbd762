"""The kernel of histories against its twins in NumPy, byte for byte, whatever comes."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.history import Events, Records, SessionRules, Snapshot, history_dtype, snapshot
from models.inputs.apply import apply_in_order
from models.inputs.features import event_inputs, input_features, ring_inputs
from models.inputs.insertion import has_place, holds, insert
from models.kernels.columns import Columns, EventColumns, Inputs, Limits
from models.kernels.history import ACCEPTED, DUPLICATE, LATE, REPLAYED, take_events
from models.steps import NOTHING

HOUR = 3_600_000
RULES = SessionRules(gap=HOUR, longest=5 * HOUR)
USERS = 3


class Plain:
    """What should become of events, one at a time, by the NumPy twins."""

    def __init__(self, records: Records, offsets: np.ndarray, limits: Limits) -> None:
        self.records, self.offsets, self.limits = records, offsets, limits
        self.verdicts: list[int] = []
        self.states: list[tuple[int, ...]] = []
        self.inputs: list[tuple[np.ndarray, np.ndarray]] = []
        self.windows: list[tuple[np.ndarray, np.ndarray]] = []
        self.anew: list[bool] = []

    def take(self, row: int, offset: int, event: Events) -> None:
        verdict = self._judge(row, offset, event)
        self.verdicts.append(verdict)
        if verdict == ACCEPTED:
            self.offsets[row] = offset
            state = snapshot(self.records, np.array([row]))
            self.states.append(told(state, 0))

    def _judge(self, row: int, offset: int, event: Events) -> int:
        record, limits = self.records[row], self.limits
        time, event_id = int(event.time[0]), int(event.id[0])
        if offset <= self.offsets[row]:
            return REPLAYED
        last = int(record["last_time"])
        anew = bool(record["n"] and limits.ttl and time - last > limits.ttl)
        if anew:
            self.records[row] = np.zeros((), self.records.dtype)
            record = self.records[row]
        if holds(record, event_id):
            return DUPLICATE
        known = int(record["n"]) > 0
        if not known or (time, event_id) > (int(record["last_time"]), int(record["last_id"])):
            trace = apply_in_order(self.records, np.array([row]), event, RULES)
            inputs = event_inputs(trace)
        elif time < last - limits.grace or not has_place(record, time, event_id):
            return LATE
        else:
            insert(record, event, RULES)
            ids, nums, used = ring_inputs(self.records, np.array([row]), limits.rebuilt)
            inputs, anew = (ids[0, : used[0]], nums[0, : used[0]]), True
        if not limits.recurrent:
            ids, nums, used = ring_inputs(self.records, np.array([row]), limits.rebuilt)
            inputs, anew = (ids[0, : used[0]], nums[0, : used[0]]), True
        self.inputs.append(inputs)
        self.anew.append(anew)
        if limits.shown:
            ids, nums, used = ring_inputs(self.records, np.array([row]), limits.shown)
            self.windows.append((ids[0, : used[0]], nums[0, : used[0]]))
        return ACCEPTED


def told(state: Snapshot | tuple[np.ndarray, ...], i: int) -> tuple[int, ...]:
    names = Snapshot.__slots__
    columns = [getattr(state, name) for name in names]
    return tuple(n for column in columns for n in np.atleast_1d(column[i]).tolist())


def drawn(rng: random.Random, count: int) -> tuple[np.ndarray, np.ndarray, Events]:
    """Disorder, equal times, duplicates, long silences, and offsets that come again."""
    time, rows, times, ids = 10**12, [], [], []
    for i in range(count):
        time += rng.choice((0, 1, HOUR // 2, HOUR // 2, 2 * HOUR, 60 * HOUR))
        rows.append(rng.randrange(USERS))
        times.append(time - rng.choice((0, 0, 0, HOUR, 3 * HOUR, 9 * HOUR)))
        ids.append(rng.choice([i + 1, i + 1, i + 1, rng.randrange(1, i + 2), 2**64 - 1 - i]))
    events = Events(
        np.array(times, np.int64),
        np.array(ids, np.uint64),
        np.array([rng.choice((1, 1, 4, 6, 6, 7)) for _ in range(count)], np.uint8),
        np.array([rng.randrange(2**32) for _ in range(count)], np.uint32),
        np.array([rng.randrange(2**16) for _ in range(count)], np.uint16),
        np.array([rng.randrange(10**9) for _ in range(count)], np.int64),
    )
    offsets = np.array([max(i - rng.choice((0, 0, 0, 3)), 0) for i in range(count)])
    return np.array(rows), np.sort(offsets), events


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.randoms(use_true_random=False),
    st.integers(1, 60),
    st.sampled_from([1, 2, 5, 8]),
)
def test_as_the_twins(rng: random.Random, count: int, ring: int) -> None:
    recurrent = rng.random() < 0.7
    shown = rng.choice((0, 2, 6))
    ttl = rng.choice((0, 50 * HOUR))
    limits = Limits(RULES.gap, RULES.longest, 4 * HOUR, ttl, 3, recurrent, shown)
    rows, offsets, events = drawn(rng, count)
    records, twins = (np.zeros(USERS, history_dtype(ring)) for _ in range(2))
    applied, twin_applied = (np.full(USERS, -1) for _ in range(2))
    plain = Plain(twins, twin_applied, limits)
    for i in range(count):
        plain.take(int(rows[i]), int(offsets[i]), events.take(slice(i, i + 1)))

    verdicts, states, inputs, windows, anew = [], [], [], [], []
    newest = np.zeros(USERS, np.int64)
    lo = 0
    while lo < count:  # in batches of any size
        part = slice(lo, lo + rng.randrange(1, 30))
        verdict, late_by, accepted, before, _, start, after, found, used, *recent = take_events(
            Columns.of(records),
            applied,
            rows[part],
            offsets[part],
            EventColumns.of(events.take(part)),
            limits,
            newest,
        )
        verdicts += verdict.tolist()
        assert (late_by[verdict != LATE] == 0).all()
        states += [told(Snapshot(*after), i) for i in range(len(accepted))]
        ids, nums = input_features(*Inputs(*(column[:used] for column in found)))
        ends = [*start[1:].tolist(), used][: len(start)]
        inputs += [(ids[a:b], nums[a:b]) for a, b in zip(start.tolist(), ends, strict=True)]
        windows += windows_in(*recent)
        anew += (before == NOTHING).tolist()
        rows_taken = rows[part][accepted].tolist()
        for place, earlier in enumerate(before.tolist()):
            same = [p for p in range(place) if rows_taken[p] == rows_taken[place]]
            if earlier != NOTHING:
                assert earlier == (same[-1] if same else -1)
        assert not newest.any()
        lo = part.stop
    assert verdicts == plain.verdicts
    assert states == plain.states
    assert anew == plain.anew
    assert records.tobytes() == twins.tobytes()
    assert applied.tolist() == twin_applied.tolist()
    found, wanted = [*inputs, *(windows if shown else [])], [*plain.inputs, *plain.windows]
    for (ids, nums), (want_ids, want_nums) in zip(found, wanted, strict=True):
        assert ids.tobytes() == want_ids.tobytes()
        assert nums.tobytes() == want_nums.tobytes()


def windows_in(begin: np.ndarray, inputs: Inputs, used: int) -> list[tuple[np.ndarray, np.ndarray]]:
    ids, nums = input_features(*Inputs(*(column[:used] for column in inputs)))
    ends = [*begin[1:].tolist(), used][: len(begin)]
    return [(ids[a:b], nums[a:b]) for a, b in zip(begin.tolist(), ends, strict=True)]
