"""Points at timers are where a worker's timers look, however a log is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.dataset import DatasetConfig, draw_points
from models.data.timers import AT_TIMERS, TimerRules, timer_moments
from models.history import REFUND, history_dtype, snapshot
from models.log.eventlog import in_order
from models.targets import shop_targets
from models.training.gather import Gathered, gather
from models.training.rolling import Rolling
from schemas.codec import encode
from schemas.events import Purchase
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import gru_scorer
from tests.models.shop import DAY, PURCHASE, START, shop_log

RULES = TimerRules(0.25, 1.25, DAY, 7 * DAY)
TARGETS = shop_targets(PURCHASE, 2 * DAY, 8 * DAY)
CONFIG = DatasetConfig(
    history_length=8, event_points=5, silence_points=5, min_points=10, timers=RULES
)
NOW = START + 100 * DAY


@pytest.mark.slow
@pytest.mark.parametrize("ago", [(0, 40), (0, 3, 9), (0, 0.5, 1)])
def test_moments_are_those_of_the_workers_timers(ago: tuple[float, ...]) -> None:
    churn = {"raise_at": 1, "escalate_at": 1, "resolve_at": 0.1, "tick_ms": 1, "replay_tick_ms": 1}
    worker = {"clock": "wall", "predict_at_timers": True}
    driver = PipelineDriver(gru_scorer(), Settings(worker=worker, churn=churn))
    for number, days in enumerate(ago):
        when = START + int(days * DAY)
        event = Purchase(
            event_id=f"e{number}", user_id="ann", event_time=when, item_id="i", price=1.0
        )
        driver.pipe_raw([(b"ann", encode(event), when)])
        driver.advance(when)
    last, end = START + int(ago[-1] * DAY), START + 400 * DAY
    driver.advance(end)
    looked = [p.state_time for p in driver.predictions() if p.reason == "timer"]
    looked = [time for time in looked if time > last]
    state = snapshot(np.array([driver.records()["ann"]]))
    which, moments = timer_moments(state, 0, np.array([end + 1]), 2, RULES)
    assert len(moments) > 10
    assert which.tolist() == [0] * len(moments)
    # A worker counts whole milliseconds from timer to timer.
    assert moments == pytest.approx(looked, rel=0, abs=1000)
    none, _ = timer_moments(state, 0, np.array([end + 1]), len(ago) + 1, RULES)
    assert not len(none)
    later, inside = timer_moments(state, moments[3], np.array([moments[6]]), 2, RULES)
    assert (inside == moments[4:6]).all()
    assert len(later) == 2


@pytest.mark.parametrize(
    ("spend", "bought", "back", "evaluated"),
    [(5, 3, 2, True), (0, 3, 3, False), (-1, 3, 1, False), (0, 3, 2, True), (0, 3, 0, True)],
)
def test_whose_money_all_went_back_is_not_evaluated(
    spend: int, bought: int, back: int, *, evaluated: bool
) -> None:
    """As in the worker, also where more orders were given back than are told apart."""
    records = np.zeros(1, history_dtype(8))
    records["n"], records["orders"], records["spend"] = bought + back, 3, spend
    records["counts"][0, [PURCHASE, REFUND]] = bought, back
    for name in ("first_time", "first_purchase"):
        records[name] = START
    for name in ("last_time", "last_purchase", "last_order"):
        records[name] = START + 9 * DAY
    which, _ = timer_moments(snapshot(records), 0, np.array([START + 40 * DAY]), 2, RULES)
    assert bool(len(which)) == evaluated


def test_points_at_timers_see_what_silences_see_and_leave_the_others_as_they_are() -> None:
    ordered = in_order(shop_log(users=60), CONFIG.grace_ms)
    until = int(ordered.log.events.time.max())
    both = draw_points(ordered, TARGETS, until, CONFIG)
    alone = draw_points(ordered, TARGETS, until, replace(CONFIG, timers=None))
    timers = both.slot < AT_TIMERS
    rest = both.take(np.flatnonzero(~timers))
    for name in ("now", "slot", "profile", "following", "eligible", "seen", "horizon", "user"):
        assert np.array_equal(getattr(rest, name), getattr(alone, name)), name
    mine = both.take(np.flatnonzero(timers))
    assert len(mine) > 300
    assert (mine.time[mine.event] < mine.now).all()
    # Only churn is asked there, and each moment lies before the user's next event.
    assert (mine.eligible == [[False, True]]).all()
    for point in range(0, len(mine), 7):
        own = ordered.log.events.time[ordered.log.users == mine.user[point]]
        before = own[own <= mine.now[point]]
        assert before[-1] == mine.time[mine.event[point]]
        assert mine.seen[point] == len(before) - 1


def told(found: Gathered) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    timers = found.timers
    assert timers is not None
    since = int(timers.now.max()) - 20 * DAY
    return {
        (int(timers.user[q]), int(timers.now[q])): (
            timers.profile[q].tobytes(),
            timers.settled[q].tobytes(),
        )
        for q in np.flatnonzero(timers.now > since).tolist()
    }


@pytest.mark.slow
def test_a_log_that_goes_on_has_the_points_at_timers_of_one_read_at_once() -> None:
    log = shop_log(users=150)
    whole = gather(log, TARGETS, CONFIG, drop_late=True, now=NOW)
    state = Rolling(TARGETS, CONFIG, drop_late=True)
    day = (log.events.time - START) // DAY
    state.begin(log.where(day < 45), NOW)
    for first in range(45, int(day.max()) + 1, 4):
        state.advance(log.where((day >= first) & (day < first + 4)), NOW)
    pieces = state.gathered()
    assert len(told(whole)) > 200
    assert told(pieces) == told(whole)
    assert pieces.timers is not None
    assert pieces.timers.now.min() > pieces.split.edges[2] - 2 * 8 * DAY - CONFIG.settle_ms


@pytest.mark.slow
def test_without_rules_there_are_none() -> None:
    config = replace(CONFIG, timers=None)
    assert gather(shop_log(), TARGETS, config, drop_late=True, now=NOW).timers is None
