"""Points see exactly what a worker sees at that moment; labels tell only what is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.dataset import DatasetConfig, Examples, build_examples, window_start
from models.data.split import CALIBRATION, STOPPING, TRAIN, VALIDATION, TimeSplit
from models.errors import DatasetError
from models.history import history_dtype
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.inputs.recent import recent_along
from models.log.eventlog import EventLog, OrderedLog, in_order
from models.targets import shop_targets
from tests.models.profiles import profile_of
from tests.models.shop import DAY, PURCHASE, VIEW, log_of, order_starts, shop_log

TARGETS = shop_targets(PURCHASE, 2 * DAY, 8 * DAY)
CONFIG = DatasetConfig(history_length=8, event_points=5, silence_points=5, min_points=10)


def split_of(log: EventLog) -> TimeSplit:
    times = log.events.time
    return TimeSplit.of(int(times.min()), int(times.max()), 8 * DAY, CONFIG.grace_ms, 0.2, 0.2)


@pytest.fixture(scope="module")
def ordered() -> OrderedLog:
    return in_order(shop_log(), CONFIG.grace_ms)


@pytest.fixture(scope="module")
def examples(ordered: OrderedLog) -> Examples:
    return build_examples(ordered, TARGETS, split_of(ordered.log), CONFIG)


def places(ordered: OrderedLog, examples: Examples) -> np.ndarray:
    """Where in the log the last event is that each point has seen."""
    users = ordered.log.users[ordered.starts]
    return ordered.starts[np.searchsorted(users, examples.user)] + examples.seen


@pytest.mark.full
def test_inputs_equal_a_replay_event_by_event(ordered: OrderedLog, examples: Examples) -> None:
    """Serving's way: one event at a time into a record, features read off the record."""
    user_of = np.repeat(np.arange(len(ordered.starts)), ordered.sizes)
    records = np.zeros(len(ordered.starts), history_dtype(CONFIG.history_length))
    points = {}
    for point, event in enumerate(places(ordered, examples)):
        points.setdefault(int(event), []).append(point)
    checked = 0
    for event in range(len(ordered.log)):
        row = user_of[event : event + 1]
        apply_in_order(
            records, row, ordered.log.events.take(slice(event, event + 1)), CONFIG.sessions
        )
        for point in points.get(event, ()):
            served = profile_of(records, row, examples.now[point : point + 1])
            assert np.array_equal(served[0], examples.profile[point])
            ids, nums, length = features.ring_inputs(records, row, CONFIG.history_length)
            # The window may begin earlier or later than the ring; where both see, they agree.
            last = int(examples.event[point])
            common = min(int(length[0]), last - int(examples.start[point]) + 1)
            seen = slice(last + 1 - common, last + 1)
            assert np.array_equal(ids[0, length[0] - common : length[0]], examples.ids[seen])
            assert np.array_equal(nums[0, length[0] - common : length[0]], examples.nums[seen])
            checked += 1
    assert checked == len(examples) > 1000


@pytest.mark.slow
def test_who_stops_a_fit_does_not_calibrate_it(ordered: OrderedLog, examples: Examples) -> None:
    """The two share their slice of time and no user."""
    stopping, calibration = (examples.of_slice(which) for which in (STOPPING, CALIBRATION))
    assert len(stopping) > CONFIG.min_points < len(calibration)
    assert not set(examples.user[stopping]) & set(examples.user[calibration])
    of_time = split_of(ordered.log).slice_of(examples.now)
    assert set(of_time[stopping]) == set(of_time[calibration]) == {CALIBRATION}
    # Elsewhere the same users are learnt from and judged, as in serving.
    assert set(examples.user[stopping]) & set(examples.user[examples.of_slice(TRAIN)])


def test_labels_equal_a_plain_look_ahead(ordered: OrderedLog, examples: Examples) -> None:
    split = split_of(ordered.log)
    user_of = np.repeat(np.arange(len(ordered.starts)), ordered.sizes)
    time, begins = ordered.log.events.time, order_starts(ordered)
    bought = {user: time[(user_of == user) & begins] for user in range(len(ordered.starts))}
    at = places(ordered, examples)
    for point in range(len(examples)):
        now = examples.now[point]
        mine = bought[user_of[at[point]]]
        past = mine[mine <= now]
        for column, target in enumerate(TARGETS):
            follows = bool(((mine > now) & (mine <= now + target.horizon_ms)).any())
            active = target.kind == "occurs" or len(past) >= CONFIG.min_orders
            truth = follows if target.kind == "occurs" else not follows
            mature = now + target.horizon_ms + CONFIG.grace_ms
            of_time = split.slice_of(examples.now[[point]])[0]
            for labels, end in (
                (examples.labels, split.edges[of_time + 1]),
                (examples.settled, split.edges[3]),
            ):
                known = active and mature <= end
                assert labels[point, column] == truth if known else np.isnan(labels[point, column])


def test_points_lie_at_events_and_in_silences(ordered: OrderedLog, examples: Examples) -> None:
    event = places(ordered, examples)
    wait = examples.now - ordered.log.events.time[event]
    assert (wait >= 0).all()
    assert 0.2 < (wait == 0).mean() < 0.8
    assert (wait[examples.at_event] == 0).all()
    assert (wait[~examples.at_event] > 0).mean() > 0.99
    assert wait.max() > 10 * DAY
    later = np.append(ordered.log.events.time[1:], np.iinfo(np.int64).max)
    later[ordered.starts[1:] - 1] = np.iinfo(np.int64).max
    silent = wait > 0
    assert (examples.now[silent] < later[event[silent]]).all()


@pytest.mark.slow
def test_a_planted_leak_would_show(ordered: OrderedLog, examples: Examples) -> None:
    """What happens after a point changes its label but none of its inputs."""
    split = split_of(ordered.log)
    cut = split.edges[1] - 10 * DAY
    early = in_order(ordered.log.until(cut), CONFIG.grace_ms)
    at = places(ordered, examples)
    key = {
        (int(u), int(i)): n
        for n, (u, i) in enumerate(zip(early.log.users, early.log.events.id, strict=True))
    }
    records = np.zeros(len(early.starts), history_dtype(CONFIG.history_length))
    rows = np.repeat(np.arange(len(early.starts)), early.sizes)
    before = records.copy()
    trace = apply_in_order(records, rows, early.log.events, CONFIG.sessions)
    ids, nums = features.event_inputs(trace)
    seen = 0
    for point in np.flatnonzero(examples.now <= cut):
        event = examples.event[point]
        found = key[int(examples.user[point]), int(ordered.log.events.id[at[point]])]
        now, one = examples.now[point : point + 1], np.array([found])
        recent = recent_along(before, rows, early.log.events, CONFIG.sessions, one, rows[one], now)
        profile = features.profile(trace.snapshot.take(one), recent, now)
        assert np.array_equal(profile[0], examples.profile[point])
        assert np.array_equal(ids[found], examples.ids[event])
        assert np.array_equal(nums[found], examples.nums[event])
        seen += 1
    assert seen > 200


def test_no_user_dominates() -> None:
    log = shop_log(users=120)
    hot = log_of([999] * 5000, list(log.events.time[0] + np.arange(5000) * 600_000), [VIEW] * 5000)
    both = EventLog.join([log, hot])
    ordered = in_order(both.take(np.argsort(both.events.time, kind="stable")), None)
    found = build_examples(ordered, TARGETS, split_of(ordered.log), CONFIG)
    users = found.user
    _, counts = np.unique(users, return_counts=True)
    assert counts.max() <= CONFIG.event_points + CONFIG.silence_points
    share = np.bincount(np.unique(users, return_inverse=True)[1], weights=found.weight)
    assert share.max() / share.sum() < 0.03


@pytest.mark.slow
def test_chunks_change_nothing(ordered: OrderedLog) -> None:
    split = split_of(ordered.log)
    small = build_examples(ordered, TARGETS, split, replace(CONFIG, chunk_events=500))
    few = build_examples(ordered, TARGETS, split, replace(CONFIG, chunk_users=7))
    whole = build_examples(ordered, TARGETS, split, CONFIG)
    for found in (small, few):
        # Points of a chunk come by chunk: put them into one order.
        order = [np.lexsort((e.seen, e.now, e.user)) for e in (found, whole)]
        for name in ("now", "profile", "labels", "weight", "slice", "user", "seen"):
            ours, theirs = (getattr(e, name)[o] for e, o in zip((found, whole), order, strict=True))
            assert np.array_equal(ours, theirs, equal_nan=True), name
        assert np.array_equal(found.ids, whole.ids)
        assert np.array_equal(found.nums, whole.nums)


def test_a_draw_repeats(ordered: OrderedLog, examples: Examples) -> None:
    again = build_examples(ordered, TARGETS, split_of(ordered.log), CONFIG)
    for name in Examples.__slots__:
        assert np.array_equal(getattr(again, name), getattr(examples, name), equal_nan=True)


def test_windows_hold_their_point_and_enough_before_it() -> None:
    position = np.arange(500)
    for length in (1, 2, 7, 8, 64):
        start = window_start(position, length)
        assert (start >= 0).all()
        assert (position - start < length).all()
        assert (position - start + 1 >= np.minimum(position + 1, length // 2)).all()
        assert (start[:length] == 0).all()


def test_events_at_the_same_time_are_not_the_future() -> None:
    log = shop_log(users=40, days=60)
    invoice = log_of([777] * 40, [int(log.events.time[0]) + 5 * DAY] * 40, [PURCHASE] * 40)
    both = EventLog.join([log, invoice])
    ordered = in_order(both.take(np.argsort(both.events.time, kind="stable")), None)
    found = build_examples(
        ordered, TARGETS, split_of(ordered.log), replace(CONFIG, event_points=40, min_points=5)
    )
    mine = found.labels[found.user == 778]
    assert len(mine) >= 40
    assert np.nanmax(mine[:, 0]) == 0


class TestRefused:
    def test_one_class_only(self) -> None:
        log = shop_log()
        views = replace_types(log, VIEW)
        with pytest.raises(DatasetError, match=r"purchase: one class only in the train slice"):
            build_examples(in_order(views, None), TARGETS, split_of(log), CONFIG)

    def test_too_few_points(self, ordered: OrderedLog) -> None:
        config = replace(CONFIG, min_points=10**6)
        with pytest.raises(DatasetError, match=r"at least 1000000 are needed"):
            build_examples(ordered, TARGETS, split_of(ordered.log), config)


def replace_types(log: EventLog, kind: int) -> EventLog:
    changed = log.take(np.arange(len(log)))
    changed.events.type[:] = kind
    return changed


def test_slices_are_all_there(examples: Examples) -> None:
    assert all(len(examples.of_slice(which)) > 100 for which in range(TRAIN, VALIDATION + 1))


def test_a_program_gives_no_points_and_the_others_keep_theirs() -> None:
    log = shop_log(users=60, days=60)
    start = int(log.events.time[0])
    bot = log_of([888] * 2000, [start + i * 60_000 for i in range(2000)], [PURCHASE] * 2000)
    both = EventLog.join([log, bot])
    ordered = in_order(both.take(np.argsort(both.events.time, kind="stable")), None)

    def users(bound: int) -> dict[int, int]:
        config = replace(CONFIG, min_points=5, bot_session_events=bound)
        found = build_examples(ordered, TARGETS, split_of(log), config)
        of, points = np.unique(found.user, return_counts=True)
        return dict(zip(of.tolist(), points.tolist(), strict=True))

    everyone, people = users(0), users(500)
    assert 889 in everyone
    assert 889 not in people
    assert set(everyone) - set(people) == {889}
