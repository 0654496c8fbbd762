"""Windows of rankings: of whom, up to when, and each moment once."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.dataset import DatasetConfig, Examples
from models.data.points import mix
from models.data.split import TRAIN, VALIDATION
from models.log.eventlog import EventLog
from models.ranking.fit import Windows, moments
from models.ranking.windows import NextWindows, next_windows, windows_of
from models.serving.scorer import network_spec
from models.targets import shop_targets
from models.training.gather import Gathered, gather
from models.training.rolling import Rolling
from tests.models.shop import DAY, PURCHASE, START, VIEW, log_of, shop_log

TARGETS = shop_targets(PURCHASE, 2 * DAY, 8 * DAY)
LENGTH = 8
CONFIG = DatasetConfig(history_length=LENGTH, min_points=10)
ITEM = network_spec(TARGETS).int_features.index("item")
NOW = START + 100 * DAY


def shop() -> EventLog:
    """Users with far more events than a window holds among them; each event has its own item."""
    plain = shop_log()
    busy = log_of([7] * 60, [START + i * DAY for i in range(60)], [VIEW, VIEW, PURCHASE] * 20)
    busy.events.id[:] += np.uint64(10**9)
    log = EventLog.join([plain, busy])
    log = log.take(np.argsort(log.events.time, kind="stable"))
    log.events.item[:] = np.arange(1, len(log) + 1)
    return EventLog(mix(log.users), log.events)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return shop()


@pytest.fixture(scope="module")
def gathered(log: EventLog) -> Gathered:
    return gather(log, TARGETS, CONFIG, drop_late=True, now=NOW)


@pytest.fixture(scope="module")
def windows(gathered: Gathered) -> NextWindows:
    return next_windows(gathered.examples, gathered.split, LENGTH)


def truths(windows: Windows) -> np.ndarray:
    """Items of what came after each moment; each is an event of its own."""
    return moments(windows.take(windows.asked), ITEM, None).truth.numpy()


def seen(windows: Windows) -> np.ndarray:
    return windows.ids[windows.events, ITEM]


@pytest.mark.slow
def test_each_part_has_its_time_and_its_users(
    log: EventLog, gathered: Gathered, windows: NextWindows
) -> None:
    time, user, edges = log.events.time, log.users, gathered.split.edges
    learnt, stopping, judged = (
        part - 1 for part in (seen(windows.train), seen(windows.stopping), truths(windows.judging))
    )
    assert min(map(len, (learnt, stopping, judged))) > 30
    assert time[learnt].max() <= edges[1]
    assert time[stopping].max() <= edges[1]
    assert time[judged].min() > edges[2]
    assert not np.isin(user[stopping], user[learnt]).any()
    assert not np.isin(user[judged], user[learnt]).any()
    assert not np.isin(user[seen(windows.judging) - 1], user[learnt]).any()


def test_each_moment_is_asked_for_once_with_all_that_can_be_seen(
    log: EventLog, gathered: Gathered
) -> None:
    examples = gathered.examples
    whole = windows_of(examples, np.arange(len(examples)), LENGTH)
    asked = truths(whole)
    assert len(np.unique(asked)) == len(asked)
    batch = moments(whole.take(whole.asked), ITEM, None)
    shown = dict(zip(batch.truth.tolist(), (batch.position + 1).tolist(), strict=True))
    order = np.lexsort((log.events.time, log.users))
    rank = np.empty(len(log), np.int64)
    starts = np.flatnonzero(np.append(True, log.users[order][1:] != log.users[order][:-1]))
    rank[order] = np.arange(len(log)) - np.repeat(starts, np.diff(starts, append=len(log)))
    for item, count in shown.items():
        before = int(rank[item - 1])
        assert min(before, LENGTH // 2) <= count <= min(before, LENGTH)


def test_of_some_points_the_windows_are_theirs(gathered: Gathered) -> None:
    examples, split = gathered.examples, gathered.split
    train = examples.of_slice(TRAIN)
    some = next_windows(examples, split, LENGTH, train[: len(train) // 10])
    whole = next_windows(examples, split, LENGTH)
    assert 0 < len(some.train) < len(whole.train) / 3
    assert np.isin(seen(some.train), seen(whole.train)).all()
    assert np.array_equal(some.stopping.start, whole.stopping.start)


@pytest.mark.slow
def test_a_log_that_goes_on_asks_no_moment_twice(log: EventLog, gathered: Gathered) -> None:
    state = Rolling(TARGETS, CONFIG, drop_late=True)
    time = log.events.time
    cuts = np.quantile(time, (0.7, 0.85)).astype(np.int64)
    state.begin(log.where(time <= cuts[0]), NOW)
    state.advance(log.where((time > cuts[0]) & (time <= cuts[1])), NOW)
    state.advance(log.where(time > cuts[1]), NOW)
    found = state.gathered()
    examples: Examples = found.examples
    assert np.array_equal(time[examples.ids[:, ITEM] - 1], examples.time)
    for part in (TRAIN, VALIDATION):
        windows = windows_of(examples, examples.of_slice(part), LENGTH)
        asked = truths(windows)
        assert len(np.unique(asked)) == len(asked) > 100
    assert found.split == gathered.split


def test_no_points_make_no_windows(gathered: Gathered) -> None:
    none = windows_of(gathered.examples, np.empty(0, np.intp), LENGTH, after=5)
    assert len(none) == len(none.asked) == 0


def test_what_has_been_is_what_everybody_did_in_the_training_slice(
    log: EventLog, gathered: Gathered, windows: NextWindows
) -> None:
    past = seen(windows.past) - 1
    assert len(past) == len(seen(windows.train)) + len(seen(windows.stopping))
    assert log.events.time[past].max() <= gathered.split.edges[1]
