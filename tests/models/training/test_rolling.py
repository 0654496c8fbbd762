"""A log taken in piece by piece is as good as one taken in at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.data.dataset import DatasetConfig, Examples
from models.data.points import mix
from models.data.spend import spend_target
from models.data.split import TRAIN
from models.errors import CheckpointError
from models.history import history_dtype
from models.log.eventlog import EventLog
from models.targets import shop_targets
from models.training.rolling import Rolling
from tests.models.shop import DAY, PURCHASE, START, shop_log

pytestmark = pytest.mark.slow

TARGETS = (*shop_targets(PURCHASE, 2 * DAY, 8 * DAY), spend_target(PURCHASE, 4 * DAY, 200.0))
CONFIG = DatasetConfig(history_length=8, event_points=5, silence_points=5, min_points=10)
NOW = START + 100 * DAY


@pytest.fixture(scope="module")
def log() -> EventLog:
    plain = shop_log(users=250)
    return EventLog(mix(plain.users), plain.events)


def rolling(config: DatasetConfig = CONFIG) -> Rolling:
    return Rolling(TARGETS, config, drop_late=True)


def pieces(log: EventLog, days: int) -> list[EventLog]:
    """Up to day 45, then so many days at a time."""
    day = (log.events.time - START) // DAY
    steps = np.maximum((day - 45) // days, -1)
    return [log.where(steps == step) for step in range(-1, int(steps.max()) + 1)]


def in_pieces(log: EventLog, days: int = 4) -> Rolling:
    first, *rest = pieces(log, days)
    state = rolling()
    state.begin(first, NOW)
    for piece in rest:
        state.advance(piece, NOW)
    return state


def seen(examples: Examples) -> dict[tuple[int, int, int], tuple[bytes, ...]]:
    return {
        (int(examples.user[q]), int(examples.now[q]), int(examples.seen[q])): (
            examples.ids[examples.start[q] : examples.event[q] + 1].tobytes(),
            examples.nums[examples.start[q] : examples.event[q] + 1].tobytes(),
            examples.profile[q].tobytes(),
            examples.labels[q].tobytes(),
        )
        for q in range(len(examples))
    }


def test_pieces_give_the_inputs_and_labels_of_the_whole(log: EventLog) -> None:
    whole = rolling()
    whole.begin(log, NOW)
    apart = in_pieces(log)
    assert apart.cut == whole.cut
    assert apart.span.first == whole.span.first
    one, other = whole.gathered(), apart.gathered()
    assert other.split == one.split
    expected, found = seen(one.examples), seen(other.examples)
    common = set(expected) & set(found)
    assert len(common) > 0.45 * len(expected)
    for key in common:
        assert found[key] == expected[key]
    assert len(found) == pytest.approx(len(expected), rel=0.03)
    for which in range(3):
        share = np.mean(other.examples.slice == which)
        assert share == pytest.approx(np.mean(one.examples.slice == which), abs=0.03)
    assert other.cleaning == one.cleaning
    assert other.window.events == one.window.events


def test_events_that_come_twice_or_too_late_change_nothing(log: EventLog) -> None:
    first, second, *rest = pieces(log, 4)
    plain, troubled = in_pieces(log), rolling()
    troubled.begin(first, NOW)
    troubled.advance(EventLog.join([second, second.take(np.arange(40))]), NOW)
    for piece in rest:
        troubled.advance(EventLog.join([first.take(np.arange(25)), piece]), NOW)
    assert seen(troubled.gathered().examples) == seen(plain.gathered().examples)


def test_nothing_new_changes_nothing(log: EventLog) -> None:
    state = in_pieces(log)
    before = seen(state.gathered().examples)
    state.advance(log.until(0), NOW)
    assert seen(state.gathered().examples) == before


def test_what_is_kept_is_bounded(log: EventLog) -> None:
    """Histories and points by the number of users; the events after the cut by the waiting time."""
    state = in_pieces(log, days=1)
    users = len(np.unique(log.users))
    assert len(state._records) <= users
    assert len(state._whole()) <= users * (CONFIG.event_points + CONFIG.silence_points)
    assert sum(map(len, state._tail)) < 0.1 * len(log)
    small = Rolling(TARGETS, replace(CONFIG, max_users=60), drop_late=True)
    first, *rest = pieces(log, 4)
    small.begin(first, NOW)
    for piece in rest:
        small.advance(piece, NOW)
    assert 20 < len(small._users) <= 60
    assert set(small.gathered().examples.user) <= set(small._users)


def test_a_lesson_is_what_is_new_and_a_reminder(log: EventLog) -> None:
    first, *rest = pieces(log, 4)
    state = rolling()
    state.begin(first, NOW)
    gathered = state.gathered()
    points = gathered.examples.of_slice(TRAIN)
    fresh, memory = state.lesson(gathered, 1.0)
    assert (len(fresh), len(memory)) == (len(points), 0)
    state.learned(gathered, "v1")
    assert len(state.lesson(gathered, 1.0)[0]) == 0
    for piece in rest:
        state.advance(piece, NOW)
    later = state.gathered()
    fresh, memory = state.lesson(later, 0.5)
    assert 0 < len(fresh) < len(later.examples.of_slice(TRAIN)) / 2
    assert (later.examples.now[fresh] > state.learned_until).all()
    assert (later.examples.now[memory] <= state.learned_until).all()
    assert len(memory) == pytest.approx(0.5 * len(fresh), rel=0.3)


def test_another_process_goes_on_from_the_file(log: EventLog, tmp_path: Path) -> None:
    *most, last = pieces(log, 4)
    first, *rest = most
    state = rolling()
    state.begin(first, NOW)
    for piece in rest:
        state.advance(piece, NOW)
    state.learned_until, state.position = 5, {"t/0": 17}
    path = tmp_path / "training.state"
    state.save(path)
    other = rolling()
    assert other.load(path)
    assert (other.learned_until, other.position) == (5, {"t/0": 17})
    state.advance(last, NOW)
    other.advance(last, NOW)
    assert seen(other.gathered().examples) == seen(state.gathered().examples)
    assert not rolling().load(tmp_path / "none")


def test_a_file_of_other_settings_or_damaged_is_refused(log: EventLog, tmp_path: Path) -> None:
    path = tmp_path / "training.state"
    in_pieces(log, 20).save(path)
    with pytest.raises(CheckpointError, match=r"other horizons or settings.*remove"):
        rolling(replace(CONFIG, event_points=6)).load(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is damaged.*remove"):
        rolling().load(path)


def test_who_asked_is_forgotten(log: EventLog) -> None:
    state = in_pieces(log)
    gone = np.unique(log.users)[:20]
    assert np.isin(gone, state._users).any()
    state.forget(gone)
    assert not np.isin(gone, state._users).any()
    assert not np.isin(gone, state.gathered().examples.user).any()
    assert all(not np.isin(gone, part.users).any() for part in state._tail)
    assert len(state._records) == len(state._users)
    assert state._records.dtype == history_dtype(CONFIG.history_length)
