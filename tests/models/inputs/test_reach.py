"""Events in the rings and the new ones behind them, user by user."""

from __future__ import annotations

import numpy as np

from models.history import Events, SessionRules, history_dtype
from models.inputs.apply import apply_in_order
from models.inputs.features import event_inputs
from models.inputs.reach import Reach, used_events

RING = 4


def events(times: list[int]) -> Events:
    size = len(times)
    return Events(
        np.array(times, np.int64),
        np.array(times, np.uint64),
        np.ones(size, np.uint8),
        np.array(times, np.uint32),
        np.ones(size, np.uint16),
        np.zeros(size, np.int64),
        np.zeros(size, np.uint32),
        np.ones(size, np.uint32),
    )


def test_what_the_ring_held_comes_before_what_is_new() -> None:
    records = np.zeros(3, history_dtype(RING))
    old = [(0, t) for t in range(10, 70, 10)] + [(2, 15), (2, 25)]
    rows = np.array([row for row, _ in old])
    apply_in_order(records, rows, events([time for _, time in old]), SessionRules())
    reach = Reach.of(records, RING)
    assert reach.length.tolist() == [4, 0, 2]
    assert reach.events[2].tolist() == [30, 40, 50, 60, 15, 25]

    rows = np.array([0, 1, 1, 2])
    trace = apply_in_order(records, rows, events([75, 80, 90, 95]), SessionRules())
    new = (*event_inputs(trace), trace.events.time)
    (ids, nums, time), base, first = reach.sequences(new, rows)
    assert time.tolist() == [30, 40, 50, 60, 75, 80, 90, 15, 25, 95]
    assert ids[:, 1].tolist() == time.tolist()
    assert len(nums) == len(time)
    assert base.tolist() == [0, 5, 7]
    assert first.tolist() == [2, 0, 0]


def test_of_empty_rings_the_new_events_are_all() -> None:
    records = np.zeros(2, history_dtype(RING))
    reach = Reach.of(records, RING)
    rows = np.array([0, 1])
    trace = apply_in_order(records, rows, events([5, 6]), SessionRules())
    new = (*event_inputs(trace), trace.events.time)
    found, base, first = reach.sequences(new, rows)
    assert found is new
    assert (base.tolist(), first.tolist()) == ([0, 1], [0, 0])


def test_events_of_overlapping_ranges_are_used_once() -> None:
    kept, moved = used_events(np.array([1, 2, 6]), np.array([3, 3, 6]), 8)
    assert kept.tolist() == [1, 2, 3, 6]
    assert moved[kept].tolist() == [0, 1, 2, 3]
