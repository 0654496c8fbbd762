"""Histories built in batches, in order and by insertion, against the plain-Python oracle."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.history import (
    Events,
    Records,
    SessionRules,
    history_bytes,
    history_dtype,
    sort_key,
)
from models.inputs.apply import apply_in_order
from models.inputs.insertion import find, has_place, insert, settle
from models.overflow import Held
from tests.oracle import Ev, UserHistory
from tests.told import told

pytestmark = pytest.mark.slow

RING, RULES = 8, SessionRules(gap=100, longest=500)
MOST = 1000


def columns(events: list[Ev]) -> Events:
    return Events(
        np.array([e.time for e in events], np.int64),
        np.array([e.id for e in events], np.uint64),
        np.array([e.type for e in events], np.uint8),
        np.array([e.item for e in events], np.uint32),
        np.array([e.category for e in events], np.uint16),
        np.array([e.amount for e in events], np.int64),
        np.array([e.order for e in events], np.uint32),
        np.array([e.quantity for e in events], np.uint32),
        np.array([e.discount for e in events], np.int64),
    )


def oracle() -> UserHistory:
    return UserHistory(ring=RING, gap=RULES.gap, longest=RULES.longest, grace=300)


def feed_serially(record: np.void, records: Records, events: list[Ev], grace: int = 300) -> Held:
    held = Held.none()
    for e in events:
        one = columns([e])
        if find(record, held, e.id) is not None:
            continue
        n = int(record["n"])
        newest = record["ring"][(n - 1) % RING]
        if n and e.key < sort_key(*(int(newest[name]) for name in ("time", "type", "id"))):
            late = e.time < int(record["last_time"]) - grace
            if late or not has_place(record, held, sort_key(e.time, e.type, e.id), MOST):
                continue
            held = insert(record, held, one, RULES, grace, MOST)
        else:
            left = record["ring"][n % RING].copy()
            apply_in_order(records, np.zeros(1, np.intp), one, RULES, held)
            if n >= RING:
                held = settle(record, held, left, RULES, grace, MOST)
    return held


ev = st.builds(
    Ev,
    time=st.one_of(st.integers(1, 3000), st.sampled_from([1000, 1100, 1200])),
    id=st.integers(1, 60),
    type=st.sampled_from([1, 1, 4, 6, 6, 7]),
    item=st.integers(0, 3),
    category=st.integers(0, 3),
    amount=st.sampled_from([0, 10_000, 10_000, 20_000, 30_000, 12_345]),
    order=st.sampled_from([0, 0, 1, 2, 3, 11, 12, 13, 14, 15, 16, 17]),
    quantity=st.integers(1, 3),
    discount=st.sampled_from([0, 0, 700, 700, 2_500]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ev, min_size=1, max_size=60))
def test_serial_feeding_equals_the_oracle(events: list[Ev]) -> None:
    records = np.zeros(1, history_dtype(RING))
    truth = oracle()
    for e in events:
        truth.offer(e)
    feed_serially(records[0], records, events)
    assert told(records[0]) == truth.aggregates()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), ev), min_size=1, max_size=120), st.integers(1, 40))
def test_batches_of_many_users_equal_the_oracle(pairs: list[tuple[int, Ev]], batch: int) -> None:
    users = [oracle() for _ in range(5)]
    ordered: list[tuple[int, Ev]] = []
    seen: set[tuple[int, int]] = set()
    for user, e in sorted(pairs, key=lambda p: p[1].key):
        if (user, e.id) not in seen:
            seen.add((user, e.id))
            ordered.append((user, e))
            users[user].accepted.append(e)
    records = np.zeros(5, history_dtype(RING))
    for lo in range(0, len(ordered), batch):
        part = sorted(ordered[lo : lo + batch], key=lambda p: p[0])
        rows = np.array([user for user, _ in part], np.intp)
        trace = apply_in_order(records, rows, columns([e for _, e in part]), RULES)
        assert len(trace.gap) == len(part)
    for user, truth in enumerate(users):
        if truth.accepted:
            assert told(records[user]) == truth.aggregates()


def test_the_trace_holds_the_state_after_each_event() -> None:
    rng = random.Random(4)
    events = [
        Ev(time=t, id=t, type=rng.choice([1, 4, 6, 7]), amount=rng.randrange(9))
        for t in sorted(rng.sample(range(1, 4000), 50))
    ]
    records = np.zeros(1, history_dtype(RING))
    trace = apply_in_order(records, np.zeros(50, np.intp), columns(events), RULES)
    truth = oracle()
    for i, e in enumerate(events):
        truth.accepted.append(e)
        want = truth.aggregates()
        for name in ("n", "orders", "sessions", "spend", "first_purchase", "last_purchase"):
            assert int(getattr(trace.snapshot, name)[i]) == want[name], (name, i)
        assert int(trace.gap[i]) == (e.time - events[i - 1].time if i else 0)


@pytest.mark.parametrize("seed", range(20))
def test_any_shuffle_within_the_grace_ends_in_the_same_bytes(seed: int) -> None:
    rng = random.Random(seed)
    times = sorted(rng.sample(range(1, 10_000), 80))
    events = [
        Ev(
            time=t,
            id=rng.randrange(2**63),
            type=rng.choice([1, 6, 6, 7]),
            order=rng.choice([0, 0, 1, 2, 3]),
            discount=rng.choice([0, 0, 700, 2_500]),
        )
        for t in times
    ]
    jittered = sorted(events, key=lambda e: e.time + rng.randrange(250))
    jittered += rng.sample(jittered[-5:], 2)
    a, b = (np.zeros(1, history_dtype(RING)) for _ in range(2))
    held = feed_serially(a[0], a, events)
    other = feed_serially(b[0], b, jittered)
    assert history_bytes(a[0], held.entries) == history_bytes(b[0], other.entries)
    assert a.tobytes() == b.tobytes()
