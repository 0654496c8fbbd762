"""The same numbers come from a trace of the whole log, event by event, and from the ring."""

from __future__ import annotations

import random

import numpy as np

from models.history import SessionRules, history_dtype
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.inputs.recent import recent_along
from tests.models.profiles import profile_of
from tests.models.test_history import columns
from tests.oracle import Ev

RING = 16
HOUR, DAY = features.HOUR, features.DAY


def log(seed: int, length: int) -> list[Ev]:
    rng = random.Random(seed)
    start = 1_600_000_000_000
    times = sorted(rng.sample(range(start, start + 60 * DAY), length))
    return [
        Ev(
            t,
            rng.randrange(2**63),
            rng.choice([1, 2, 4, 6, 7]),
            rng.randrange(2**32),
            rng.randrange(2**16),
            rng.randrange(10**7),
            discount=rng.choice([0, 0, rng.randrange(10**6)]),
        )
        for t in times
    ]


def test_trace_step_by_step_and_ring_agree_exactly() -> None:
    events = log(1, 50)
    whole, rows = np.zeros(1, history_dtype(RING)), np.zeros(50, np.intp)
    now = columns(events).time + 5 * HOUR
    recent = recent_along(whole, rows, columns(events), SessionRules(), np.arange(50), rows, now)
    trace = apply_in_order(whole, np.zeros(50, np.intp), columns(events), SessionRules())
    ids, nums = features.event_inputs(trace)
    profiles = features.profile(trace.snapshot, recent, now)

    one = np.zeros(1, history_dtype(RING))
    for i, e in enumerate(events):
        step = apply_in_order(one, np.zeros(1, np.intp), columns([e]), SessionRules())
        step_ids, step_nums = features.event_inputs(step)
        assert (step_ids[0] == ids[i]).all()
        assert (step_nums[0] == nums[i]).all()
        got = profile_of(one, np.zeros(1, np.intp), np.array([e.time + 5 * HOUR]))
        assert (got[0] == profiles[i]).all()
        for length in (4, RING):
            ring_ids, ring_nums, used = features.ring_inputs(one, np.zeros(1, np.intp), length)
            k = min(i + 1, length)
            assert used[0] == k
            assert (ring_ids[0, :k] == ids[i + 1 - k : i + 1]).all()
            assert (ring_nums[0, :k] == nums[i + 1 - k : i + 1]).all()


def test_ring_inputs_of_users_with_histories_of_different_length() -> None:
    records = np.zeros(3, history_dtype(RING))
    for row, length in ((1, 3), (2, 40)):
        apply_in_order(
            records, np.full(length, row, np.intp), columns(log(row, length)), SessionRules()
        )
    ids, nums, used = features.ring_inputs(records, np.array([0, 1, 2]), 8)
    assert used.tolist() == [0, 3, 8]
    assert ids.shape == (3, 8, len(features.INT_FEATURES))
    assert not ids[0].any()
    assert not ids[1, 3:].any()
    assert not nums[1, 3:].any()
    assert ids[2, :, 0].all()


def test_profile_says_what_its_names_say() -> None:
    start = 1_600_000_000_000
    events = [
        Ev(start, 1, 1),
        Ev(start + HOUR, 2, 6, amount=50_000),
        Ev(start + 2 * DAY, 3, 6, amount=30_000),
        Ev(start + 2 * DAY + 60_000, 4, 7, amount=10_000),
    ]
    records = np.zeros(1, history_dtype(RING))
    apply_in_order(records, np.zeros(4, np.intp), columns(events), SessionRules())
    now = np.array([start + 3 * DAY])
    row = profile_of(records, np.zeros(1, np.intp), now)[0]
    told = dict(zip(features.PROFILE_FEATURES, np.expm1(row.astype(np.float64)), strict=True))
    assert abs(told["log_silence_hours"] - (24 - 1 / 60)) < 1e-4
    assert abs(told["log_since_purchase_hours"] - 24) < 1e-4
    assert abs(told["log_tenure_hours"] - 72) < 1e-4
    assert abs(told["log_orders"] - 2) < 1e-5
    assert abs(told["log_spend"] - 7) < 1e-5
    assert abs(told["log_order_value"] - 3.5) < 1e-5
    assert abs(told["log_expected_gap_hours"] - (7 * 24 + 47) / 2) < 1e-3
    assert abs(told["log_sessions"] - 3) < 1e-5
    assert row[features.PROFILE_FEATURES.index("has_purchase")] == 1
    assert row[features.PROFILE_FEATURES.index("refund_share")] == np.float32(1 / 8)


def test_silence_changes_only_what_depends_on_now() -> None:
    records = np.zeros(1, history_dtype(RING))
    apply_in_order(records, np.zeros(30, np.intp), columns(log(9, 30)), SessionRules())
    rows, last = np.zeros(1, np.intp), records["last_time"]
    early, late = (profile_of(records, rows, last + d)[0] for d in (DAY, 30 * DAY))
    changed = {n for n, a, b in zip(features.PROFILE_FEATURES, early, late, strict=True) if a != b}
    at_any_time = {
        "log_silence_hours",
        "log_since_purchase_hours",
        "log_tenure_hours",
        "log_overdue",
        "log_orders_per_day",
        "log_overdue_median",
        "log_overdue_longest",
    }
    windows = {name for name in features.RECENT_FEATURES if name.endswith(("1d", "7d", "0d", "4d"))}
    assert at_any_time | {"log_events_7d", "log_sessions_30d"} <= changed <= at_any_time | windows
