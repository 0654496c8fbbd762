"""The kernel of histories against its twins in NumPy, byte for byte, whatever comes."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.history import (
    HISTORY,
    ON_TIME,
    RETIMED,
    Events,
    Records,
    SessionRules,
    Snapshot,
    chronological,
    history_bytes,
    history_dtype,
    snapshot,
    sort_key,
)
from models.inputs.apply import apply_in_order
from models.inputs.features import event_inputs, input_features, ring_inputs
from models.inputs.insertion import (
    corrects,
    differing,
    find,
    has_place,
    insert,
    is_late,
    settle,
)
from models.inputs.recent import recent_reference
from models.kernels.columns import EventColumns, Inputs, Limits
from models.kernels.history import ACCEPTED, DUPLICATE, LATE, REPLAYED, REUSED, take_events
from models.kernels.repeats import CONTENT
from models.orders import late_code
from models.overflow import Held, Overflow
from models.steps import NOTHING
from schemas.events import TYPE_CODES

pytestmark = pytest.mark.slow

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
        self.held = [Held.none() for _ in records]
        self.differing: list[tuple[str, ...]] = []
        self.recent: list[np.ndarray] = []

    def take(self, row: int, offset: int, event: Events, *, moved: bool, came: int) -> None:
        self.differing.append(())
        verdict = self._judge(row, offset, event, moved=moved, came=came)
        self.verdicts.append(verdict)
        if verdict == ACCEPTED:
            self.offsets[row] = offset
            state = snapshot(self.records, np.array([row]))
            self.states.append(told(state, 0))
            last = int(self.records["last_time"][row])
            self.recent.append(recent_reference(self.records[row], self.held[row], last, RULES))

    def _judge(self, row: int, offset: int, event: Events, *, moved: bool, came: int) -> int:
        record, limits = self.records[row], self.limits
        time, kind, event_id = int(event.time[0]), int(event.type[0]), int(event.id[0])
        if offset <= self.offsets[row]:
            return REPLAYED
        last = int(record["last_time"])
        anew = bool(record["n"] and limits.ttl and time - last > limits.ttl)
        if anew:
            self.records[row] = np.zeros((), self.records.dtype)
            record = self.records[row]
            self.held[row] = Held.none()
        held, most = self.held[row], limits.most
        if (entry := find(record, held, event_id)) is not None:
            self.differing[-1] = differing(entry, event, moved=moved)
            return REUSED if self.differing[-1] else DUPLICATE
        flags = came & HISTORY
        if not came & ON_TIME and corrects(record, event, limits.grace, limits.correction):
            order = np.array([late_code(int(event.order[0]), time)], np.uint32)
            time, flags = last, RETIMED
            event = dataclasses.replace(event, time=np.array([last]), order=order)
        known = int(record["n"]) > 0
        key, bound = sort_key(time, kind, event_id), limits.rebuilt
        if not known or key > newest_key(record):
            left = record["ring"][int(record["n"]) % len(record["ring"])].copy()
            full = int(record["n"]) >= len(record["ring"])
            trace = apply_in_order(self.records, np.array([row]), event, RULES, held)
            record["ring"]["flags"][(int(record["n"]) - 1) % len(record["ring"])] |= flags
            if full:
                self.held[row] = settle(record, held, left, RULES, limits.grace, most)
            inputs = event_inputs(trace)
        elif is_late(record, key, limits.grace, came) or not has_place(record, held, key, most):
            return LATE
        else:
            self.held[row] = insert(record, held, event, RULES, limits.grace, most, flags)
            inputs, anew = self._newest(row, bound, whole=limits.recurrent), True
        if not limits.recurrent:
            inputs, anew = self._newest(row, bound), True
        self.inputs.append(inputs)
        self.anew.append(anew)
        if limits.shown:
            self.windows.append(self._newest(row, limits.shown))
        return ACCEPTED

    def _newest(self, row: int, length: int, *, whole: bool = False) -> tuple[np.ndarray, ...]:
        """The inputs of the newest events; of all if so wanted and all are held one by one."""
        record, held = self.records[row], self.held[row]
        n, size = int(record["n"]), len(record["ring"])
        if whole and n == min(n, size) + len(held.entries):
            # As one ring that is large enough.
            record = np.zeros(1, history_dtype(max(n, 1)))
            record["n"] = n
            record["ring"][0, :n] = np.concatenate([held.entries, chronological(self.records[row])])
            ids, nums, used = ring_inputs(record, np.zeros(1, np.intp), n)
        else:
            ids, nums, used = ring_inputs(self.records, np.array([row]), length)
        return ids[0, : used[0]], nums[0, : used[0]]


def newest_key(record: np.void) -> tuple[int, bool, int]:
    newest = record["ring"][(int(record["n"]) - 1) % len(record["ring"])]
    return sort_key(int(newest["time"]), int(newest["type"]), int(newest["id"]))


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
        np.array([rng.choice((0, 0, 1, 2, rng.randrange(12))) for _ in range(count)], np.uint32),
        np.array([rng.randrange(1, 4) for _ in range(count)], np.uint32),
        np.array([rng.choice((0, 0, 500, rng.randrange(10**9))) for _ in range(count)], np.int64),
    )
    for again in rng.sample(range(count), count // 5):  # sent again as they were
        earlier = rng.randrange(again + 1)
        rows[again] = rows[earlier]
        for name in Events.__slots__:
            getattr(events, name)[again] = getattr(events, name)[earlier]
    offsets = np.array([max(i - rng.choice((0, 0, 0, 3)), 0) for i in range(count)])
    return np.array(rows), np.sort(offsets), events


@pytest.mark.full
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
    most, late = rng.choice((1, 2, 5, 4096)), rng.choice((0, 7 * HOUR))
    limits = Limits(RULES.gap, RULES.longest, 4 * HOUR, ttl, 3, recurrent, most, late, shown)
    rows, offsets, events = drawn(rng, count)
    moved = np.array([rng.random() < 0.1 for _ in range(count)])
    share = rng.choice((0.0, 0.5, 0.9, 1.0))
    came = np.array([HISTORY * (rng.random() < share) for _ in range(count)], np.uint8)
    came |= np.array([ON_TIME * (rng.random() < 0.1) for _ in range(count)], np.uint8)
    records, twins = (np.zeros(USERS, history_dtype(ring)) for _ in range(2))
    applied, twin_applied = (np.full(USERS, -1) for _ in range(2))
    plain = Plain(twins, twin_applied, limits)
    for i in range(count):
        one = events.take(slice(i, i + 1))
        plain.take(int(rows[i]), int(offsets[i]), one, moved=bool(moved[i]), came=int(came[i]))

    differs: list[int] = []
    verdicts, states, inputs, windows, anew, recent = [], [], [], [], [], []
    newest, overflow = np.zeros(USERS, np.int64), Overflow(USERS)
    lo = 0
    while lo < count:  # in batches of any size
        part = slice(lo, lo + rng.randrange(1, 30))
        size = len(rows[part])
        taken = take_events(
            records,
            overflow,
            applied,
            rows[part],
            offsets[part],
            EventColumns.of(events.take(part), moved[part], came[part]),
            limits,
            newest,
            np.ones(size, np.bool_),
        )
        differs += taken.differs.tolist()
        verdicts += taken.verdict.tolist()
        assert (taken.late_by[taken.verdict != LATE] == 0).all()
        states += [told(Snapshot(*taken.after), i) for i in range(len(taken.accepted))]
        assert taken.scored.tolist() == list(range(len(taken.accepted)))
        inputs += pieces(taken.start, taken.inputs, taken.used)
        windows += pieces(taken.shown, taken.windows, taken.seen) if shown else []
        anew += (taken.before == NOTHING).tolist()
        recent += list(taken.recent)
        rows_taken = rows[part][taken.accepted].tolist()
        for place, earlier in enumerate(taken.before.tolist()):
            same = [p for p in range(place) if rows_taken[p] == rows_taken[place]]
            if earlier != NOTHING:
                assert earlier == (same[-1] if same else -1)
        assert not newest.any()
        lo = part.stop
    assert verdicts == plain.verdicts
    fields = [tuple(f for i, f in enumerate(CONTENT) if bits >> i & 1) for bits in differs]
    assert fields == plain.differing
    assert states == plain.states
    assert anew == plain.anew
    assert [row.tobytes() for row in recent] == [row.tobytes() for row in plain.recent]
    assert records.tobytes() == twins.tobytes()
    for row in range(USERS):
        held = overflow.of(records, row)
        assert held.entries.tobytes() == plain.held[row].entries.tobytes()
        assert held.purchase == plain.held[row].purchase
    assert applied.tolist() == twin_applied.tolist()
    found, wanted = [*inputs, *(windows if shown else [])], [*plain.inputs, *plain.windows]
    for (ids, nums), (want_ids, want_nums) in zip(found, wanted, strict=True):
        assert ids.tobytes() == want_ids.tobytes()
        assert nums.tobytes() == want_nums.tobytes()


@pytest.mark.parametrize("mark", [HISTORY, ON_TIME])
@pytest.mark.parametrize("apart", [HOUR // 2, 2 * HOUR])
def test_a_session_goes_on_from_the_event_that_an_old_one_pushes_out(mark: int, apart: int) -> None:
    """No event that is held lies before the old one then, but its session began earlier."""
    views = Events(
        time=10**12 + np.array([0, apart, 60 * HOUR]),
        id=np.array([1, 2, 3], np.uint64),
        type=np.full(3, TYPE_CODES["view"], np.uint8),
        item=np.zeros(3, np.uint32),
        category=np.zeros(3, np.uint16),
        amount=np.zeros(3, np.int64),
        order=np.zeros(3, np.uint32),
        quantity=np.ones(3, np.uint32),
    )
    marks = np.array([mark, mark, 0], np.uint8)
    limits = Limits(RULES.gap, RULES.longest, 4 * HOUR, 0, 3, recurrent=True)
    found = []
    for order in ([0, 1, 2], [0, 2, 1]):
        records, overflow = np.zeros(1, history_dtype(2)), Overflow(1)
        taken = take_events(
            records,
            overflow,
            np.full(1, -1),
            np.zeros(3, np.int64),
            np.arange(3),
            EventColumns.of(views.take(np.array(order)), None, marks[order]),
            limits,
            np.zeros(1, np.int64),
            np.ones(3, np.bool_),
        )
        assert taken.verdict.tolist() == [ACCEPTED] * 3
        assert records["sessions"][0] == (2 if apart <= RULES.gap else 3)
        found.append(history_bytes(records[0], overflow.of(records, 0).entries))
    assert found[0] == found[1]


def pieces(begin: np.ndarray, inputs: Inputs, used: int) -> list[tuple[np.ndarray, np.ndarray]]:
    ids, nums = input_features(*Inputs(*(column[:used] for column in inputs)))
    ends = [*begin[1:].tolist(), used][: len(begin)]
    return [(ids[a:b], nums[a:b]) for a, b in zip(begin.tolist(), ends, strict=True)]


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.randoms(use_true_random=False),
    st.integers(1, 80),
    st.sampled_from([1, 2, 5, 8, 64]),
)
def test_the_last_state_is_made_of_the_same(rng: random.Random, count: int, ring: int) -> None:
    """Whether the states on the way to it are wanted too, or not; also of some users only."""
    recurrent, shown = rng.random() < 0.8, rng.choice((0, 2, 6))
    ttl, most, late = rng.choice((0, 50 * HOUR)), rng.choice((1, 2, 5, 4096)), 7 * HOUR
    grace = rng.choice((4 * HOUR, 10_000 * HOUR))
    limits = Limits(RULES.gap, RULES.longest, grace, ttl, 3, recurrent, most, late, shown)
    rows, offsets, events = drawn(rng, count)
    watched = np.array([rng.random() < 0.3 for _ in range(USERS)])
    share = rng.choice((0.0, 0.5, 1.0))
    came = np.array([HISTORY * (rng.random() < share) for _ in range(count)], np.uint8)
    tables = [np.zeros(USERS, history_dtype(ring)) for _ in range(2)]
    overflows = [Overflow(USERS) for _ in tables]
    applied = [np.full(USERS, -1) for _ in tables]
    lo = 0
    while lo < count:
        part = slice(lo, lo + rng.randrange(1, 60))
        columns = EventColumns.of(events.take(part), None, came[part])
        all_of, some = (
            take_events(
                table,
                overflow,
                own,
                rows[part],
                offsets[part],
                columns,
                limits,
                np.zeros(USERS, np.int64),
                every,
            )
            for table, overflow, own, every in zip(
                tables,
                overflows,
                applied,
                (np.ones(len(rows[part]), np.bool_), watched[rows[part]]),
                strict=True,
            )
        )
        users = rows[part][some.accepted]
        last = [k for k, user in enumerate(users) if user not in users[k + 1 :]]
        assert some.scored[some.latest].tolist() == last
        wanted = [k for k, user in enumerate(users) if k in last or watched[user]]
        assert some.scored.tolist() == wanted
        inputs = pieces(all_of.start, all_of.inputs, all_of.used)
        found = pieces(some.start, some.inputs, some.used)
        assert some.recent.tobytes() == all_of.recent[wanted].tobytes()
        for e, k in enumerate(wanted):
            way, before = [inputs[k]], int(all_of.before[k])
            while before >= 0 and before not in wanted:
                way.insert(0, inputs[before])
                before = int(all_of.before[before])
            assert int(some.before[e]) == (wanted.index(before) if before >= 0 else before)
            for at in range(2):
                expected = np.concatenate([piece[at] for piece in way])
                assert found[e][at].tobytes() == expected.tobytes()
        if shown:
            windows = pieces(all_of.shown, all_of.windows, all_of.seen)
            own = pieces(some.shown, some.windows, some.seen)
            for (ids, nums), k in zip(own, wanted, strict=True):
                assert ids.tobytes() == windows[k][0].tobytes()
                assert nums.tobytes() == windows[k][1].tobytes()
        assert tables[0].tobytes() == tables[1].tobytes()
        lo = part.stop
