"""A log read in stretches gives the inputs and labels of one that is read at once."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.dataset import DatasetConfig, draw_points
from models.data.points import Points, draw, follow, join, mix, uniform
from models.history import history_dtype
from models.log.eventlog import OrderedLog, in_order
from models.log.orders import deciding
from models.targets import intent_targets, shop_targets
from tests.models.shop import DAY, PURCHASE, order_starts, shop_log

TARGETS = (
    *shop_targets(PURCHASE, 2 * DAY, 8 * DAY),
    *intent_targets(("purchase", "leave"), ("session", 90_000), 1_800_000, 7_200_000),
)
CONFIG = DatasetConfig(history_length=8, event_points=5, session_points=9, silence_points=5, seed=3)


@pytest.fixture(scope="module")
def ordered() -> OrderedLog:
    return in_order(shop_log(users=120, days=60), None)


def in_stretches(ordered: OrderedLog, cuts: list[int]) -> list[Points]:
    users = ordered.log.users[ordered.starts]
    rows = np.repeat(np.arange(len(users)), ordered.sizes)
    records = np.zeros(len(users), history_dtype(CONFIG.history_length))
    parts: list[Points] = []
    since = None
    for until in cuts:
        times = ordered.log.events.time
        now = np.flatnonzero((times > (since or 0)) & (times <= until))
        events, at = ordered.log.events.take(now), rows[now]
        decides = deciding(records, at, events, CONFIG.sessions, CONFIG.cancel_window_ms)
        for part in parts:
            follow(
                part,
                np.searchsorted(users, part.user),
                at,
                events,
                decides,
                TARGETS,
                CONFIG.sessions,
            )
        parts.append(
            draw(records, users, at, events, decides, since, until, TARGETS, CONFIG.drawing)
        )
        since = until
    return parts


def windows(points: Points) -> dict[tuple[int, int, int], tuple[bytes, ...]]:
    """What each point sees and what followed, by user, moment and last event."""
    found = {}
    for q in range(len(points)):
        seen = slice(int(points.start[q]), int(points.event[q]) + 1)
        found[int(points.user[q]), int(points.now[q]), int(points.seen[q])] = (
            points.ids[seen].tobytes(),
            points.nums[seen].tobytes(),
            points.profile[q].tobytes(),
            points.following[q].tobytes(),
            # Which points are drawn for intent alone depends on what else a stretch holds.
            points.eligible[q, 2:].tobytes(),
            points.session_end[q].tobytes(),
        )
    return found


def test_points_of_stretches_equal_those_of_the_whole(ordered: OrderedLog) -> None:
    """Points just after events are the same ones where both drew them; so is all they see."""
    first, last = int(ordered.log.events.time.min()), int(ordered.log.events.time.max())
    cuts = [first + (last - first) * part // 7 for part in range(1, 8)]
    whole = windows(draw_points(ordered, TARGETS, last, CONFIG))
    apart = windows(join(in_stretches(ordered, cuts)))
    common = set(whole) & set(apart)
    at_events = {key for key in whole if key in common}
    assert len(at_events) >= 0.45 * len(whole)
    for key in common:
        assert whole[key] == apart[key]


def test_silences_of_stretches_see_what_serving_would(ordered: OrderedLog) -> None:
    """Every point of a later stretch, silent ones too, equals a replay up to its moment."""
    first, last = int(ordered.log.events.time.min()), int(ordered.log.events.time.max())
    middle = (first + last) // 2
    late = in_stretches(ordered, [middle, last])[1]
    times = ordered.log.events.time
    begins = order_starts(ordered)
    checked = 0
    for q in range(0, len(late), 9):
        upto = in_order(ordered.log.until(int(late.now[q])), None)
        mine = upto.log.where(upto.log.users == late.user[q])
        assert len(mine) >= late.seen[q] + 1
        if late.slot[q] < 0:
            assert len(mine) == late.seen[q] + 1
            mine_later = (ordered.log.users == late.user[q]) & (times > late.now[q])
            purchases = times[mine_later & begins]
            assert late.following[q, 0] == (purchases.min() if len(purchases) else 0)
            checked += 1
    assert checked > 20


def test_silences_are_spread_alike(ordered: OrderedLog) -> None:
    first, last = int(ordered.log.events.time.min()), int(ordered.log.events.time.max())
    cuts = [first + (last - first) * part // 5 for part in range(1, 6)]
    apart = join(in_stretches(ordered, cuts))
    order = np.lexsort((apart.now, apart.slot, apart.user))
    silent = order[apart.slot[order] < 0]
    newest = np.append(
        (apart.user[silent][1:] != apart.user[silent][:-1])
        | (apart.slot[silent][1:] != apart.slot[silent][:-1]),
        True,
    )
    whole = draw_points(ordered, TARGETS, last, CONFIG)
    share = np.array([np.mean(apart.now[silent[newest]] <= cut) for cut in cuts])
    expected = np.array([np.mean(whole.now[whole.slot < 0] <= cut) for cut in cuts])
    assert np.abs(share - expected).max() < 0.06
    assert newest.sum() == (whole.slot < 0).sum()


def test_taking_points_keeps_what_they_see(ordered: OrderedLog) -> None:
    points = draw_points(ordered, TARGETS, int(ordered.log.events.time.max()), CONFIG)
    kept = np.arange(3, len(points), 5)
    some = points.take(kept)
    before, after = windows(points), windows(some)
    assert len(some) == len(kept)
    assert after == {key: before[key] for key in after}
    assert len(some.ids) < len(points.ids)


def test_hashes_look_random() -> None:
    numbers = uniform(mix(np.arange(20_000, dtype=np.uint64), 5))
    assert abs(numbers.mean() - 0.5) < 0.01
    assert np.histogram(numbers, 10, (0, 1))[0].min() > 1800
    assert not np.array_equal(mix(np.arange(9, dtype=np.uint64)), mix(np.arange(9), 1))
