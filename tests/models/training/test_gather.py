"""From a log to examples: the same in one part or in many, bounded, with the story of the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.data.dataset import DatasetConfig, Examples
from models.data.leaks import Columns
from models.data.points import mix
from models.errors import DatasetError
from models.history import REFUND
from models.log.eventlog import EventLog, LogParts
from models.log.spool import Spool
from models.targets import shop_targets
from models.training import gather as gathering
from models.training.gather import Gathered, Span, UserSample, gather
from tests.models.shop import DAY, PURCHASE, START, log_of, shop_log

TARGETS = shop_targets(PURCHASE, 2 * DAY, 8 * DAY)
CONFIG = DatasetConfig(history_length=8, event_points=5, silence_points=5, min_points=10)
NOW = START + 100 * DAY


@pytest.fixture(scope="module")
def log() -> EventLog:
    plain = shop_log()
    return EventLog(mix(plain.users), plain.events)


def gathered(log: LogParts, config: DatasetConfig = CONFIG) -> Gathered:
    return gather(log, TARGETS, config, drop_late=True, now=NOW)


@pytest.mark.slow
def test_parts_on_disk_give_the_same_examples(log: EventLog, tmp_path: Path) -> None:
    whole = gathered(log)
    with Spool(tmp_path, bits=3) as spool:
        spool.append(log)
        apart = gathered(spool)
    assert apart.split == whole.split
    assert apart.cleaning == whole.cleaning
    assert apart.window == whole.window
    for name in ("now", "profile", "labels", "slice", "user", "event", "start", "ids", "nums"):
        ours, theirs = getattr(apart.examples, name), getattr(whole.examples, name)
        assert np.array_equal(sort(apart.examples, ours), sort(whole.examples, theirs), True), name


def sort(examples: Examples, column: np.ndarray) -> np.ndarray:
    if len(column) != len(examples):
        return column
    return column[np.lexsort((examples.seen, examples.now, examples.user))]


def test_the_window_tells_the_balance_of_classes(log: EventLog) -> None:
    found = gathered(log)
    window, examples = found.window, found.examples
    assert window.events == len(log) == found.cleaning.read
    assert window.users == len(np.unique(log.users))
    for which, name in enumerate(("train", "calibration", "validation")):
        labels = examples.labels[examples.slice == which]
        assert window.positives[name]["purchase"] == pytest.approx(np.nanmean(labels[:, 0]))
        assert window.examples[name] == len(labels)


@pytest.mark.slow
def test_too_many_users_are_halved_by_hash(log: EventLog) -> None:
    everyone = gathered(log).examples
    some = gathered(log, replace(CONFIG, max_users=100)).examples
    users = np.unique(some.user)
    assert 40 < len(users) <= 100
    assert np.isin(users, everyone.user).all()
    mine = np.isin(everyone.user, users)
    assert mine.sum() == len(some)
    assert np.array_equal(np.sort(everyone.now[mine]), np.sort(some.now))


@pytest.mark.slow
def test_cancelled_purchases_decide_nothing(log: EventLog) -> None:
    """All purchases taken back within the hour: nobody buys, as far as labels know."""
    bought = log.where(log.events.type == PURCHASE)
    back = bought.take(np.arange(len(bought)))
    back.events.time[:] += 3_600_000
    back.events.type[:] = REFUND
    back.events.id[:] += np.uint64(10**9)
    both = EventLog.join([log, back])
    both = both.take(np.argsort(both.events.time, kind="stable"))
    with pytest.raises(DatasetError, match="purchase: one class only"):
        gathered(both)
    config = replace(CONFIG, cancel_window_ms=60_000)
    # Who has given everything back is no buyer who could be lost: nothing is known of churn.
    found = gather(both, TARGETS[:1], config, drop_late=True, now=NOW)
    assert found.window.positives["train"]["purchase"] > 0
    assert found.cleaning.cancelled == 0
    assert found.cleaning.refunds > 0.8 * len(back)


def test_labels_wait_for_horizon_grace_and_cancellations(log: EventLog) -> None:
    found = gathered(log)
    known = ~np.isnan(found.examples.labels)
    ends = np.array(found.split.edges[1:])[found.split.slice_of(found.examples.now)]
    for column, target in enumerate(TARGETS):
        at = known[:, column]
        wait = target.horizon_ms + CONFIG.grace_ms + CONFIG.cancel_window_ms
        assert (found.examples.now[at] + wait <= ends[at]).all()
    last = int(log.events.time.max())
    assert (found.examples.now + 2 * DAY + CONFIG.grace_ms <= last).all()


def test_no_window_of_a_label_crosses_into_another_slice(log: EventLog) -> None:
    """Neither a user's later purchases nor a session reach from one slice into the one before."""
    found = gathered(log)
    edges = found.split.edges
    for which in range(2):
        latest = found.examples.now[found.examples.slice == which].max()
        assert latest + 2 * DAY + CONFIG.settle_ms <= edges[which + 1]
        assert edges[which + 1] - latest > CONFIG.sessions.longest


def test_a_peeking_feature_stops_the_run(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = gathering.check_leaks

    def leaky(ordered: object, rules: object) -> None:
        def inputs(part: object, _: object) -> Columns:
            return {"total": np.full(len(part.log), len(part.log))}  # type: ignore[attr-defined]

        honest(ordered, rules, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(gathering, "check_leaks", leaky)
    with pytest.raises(DatasetError, match="'total' peeks into the future"):
        gathered(log)


@pytest.mark.slow
def test_bots_are_counted(log: EventLog) -> None:
    bot = log_of([7] * 900, [START + i * 60_000 for i in range(900)], [PURCHASE] * 900)
    bot.events.id[:] += np.uint64(10**9)
    found = gathered(EventLog.join([log, bot]), replace(CONFIG, bot_session_events=500))
    assert (found.cleaning.bot_users, found.cleaning.bot_events) == (1, 900)
    assert 8 not in found.examples.user


def test_an_empty_log_is_refused(log: EventLog) -> None:
    with pytest.raises(DatasetError, match="event log is empty"):
        gathered(log.until(0))


def test_spans_are_by_the_minute() -> None:
    times = np.arange(1000) * 60_000 + 5
    span = Span()
    span.add(times[:10])
    span.add(times[5:])
    span.add(times[:0])
    assert (span.first, span.last) == (5, times[-1])
    assert span.quantile(0.0) == 0
    assert span.quantile(1.0) == 999 * 60_000


def test_samples_of_users_do_not_depend_on_the_order() -> None:
    users = mix(np.arange(1000, dtype=np.uint64), 9)
    one = UserSample(200)
    assert one.shrink_to_fit(users)
    two = UserSample(200)
    known = users[:0]
    for part in np.array_split(users[::-1], 7):
        known = np.concatenate([known, part[two.keeps(part)]])
        two.shrink_to_fit(known)
        known = known[two.keeps(known)]
    assert one.halvings == two.halvings
    assert set(known.tolist()) == set(users[one.keeps(users)].tolist())
