"""Who is no person: by the history alone."""

from __future__ import annotations

import numpy as np

from models.history import Events, SessionRules, Snapshot, history_dtype
from models.inputs.apply import apply_in_order
from models.log.automation import automated

MINUTE = 60_000
HOUR = 60 * MINUTE


def after_each(times: list[int]) -> Snapshot:
    size = len(times)
    events = Events(
        np.array(times, np.int64),
        np.arange(1, size + 1, dtype=np.uint64),
        np.ones(size, np.uint8),
        np.zeros(size, np.uint32),
        np.zeros(size, np.uint16),
        np.zeros(size, np.int64),
        np.zeros(size, np.uint32),
        np.ones(size, np.uint32),
    )
    records = np.zeros(1, history_dtype(8))
    return apply_in_order(records, np.zeros(size, np.intp), events, SessionRules()).snapshot


def test_one_who_never_pauses_is_a_program_once_the_visit_is_longer_than_any() -> None:
    flags = automated(after_each([1 + i * MINUTE for i in range(300)]), 100)
    assert flags.tolist() == [False] * 100 + [True] * 200


def test_a_day_without_a_pause_is_two_sessions() -> None:
    flags = automated(after_each([1 + i * 10 * MINUTE for i in range(300)]), 100)
    assert np.flatnonzero(np.diff(flags)).tolist() == [99, 144, 199, 289]


def test_large_orders_with_pauses_between_them_are_a_person() -> None:
    orders = [1 + order * HOUR for order in range(10) for _ in range(100)]
    assert not automated(after_each(orders), 100).any()
    assert automated(after_each(orders), 99).any()


def test_nobody_is_with_the_bound_switched_off() -> None:
    assert not automated(after_each([1] * 5000), 0).any()
