"""Targets of a session: labels in training and in outcomes, where they apply and where not."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.data.dataset import (
    DatasetConfig,
    Examples,
    build_examples,
    draw_points,
    label_points,
    restrict,
)
from models.data.split import GAP as UNLABELLED
from models.data.split import TimeSplit
from models.history import SessionRules
from models.log.eventlog import OrderedLog, in_order
from models.targets import (
    LEAVE,
    SESSION,
    intent_targets,
    of_purchases,
    shop_targets,
)
from schemas.events import EventType
from schemas.outputs import TargetScore
from stream.outcomes.joiner import OutcomeJoiner
from stream.outcomes.order_times import Line
from stream.outcomes.rules import OutcomeRules
from tests.models.shop import CART, PURCHASE, START, log_of, order_starts
from tests.stream.outcomes.tools import prediction

MINUTE = 60_000
HOUR = 60 * MINUTE
GAP = 30 * MINUTE
LONGEST = 2 * HOUR
INTENTS = intent_targets(
    ("purchase", "cart", "leave"), (SESSION, 15 * MINUTE), session_gap_ms=GAP, longest_ms=LONGEST
)
SHOP = shop_targets(PURCHASE, 12 * HOUR, 24 * HOUR)
TARGETS = (*SHOP, *INTENTS)
CONFIG = DatasetConfig(
    history_length=16,
    event_points=3,
    session_points=60,
    silence_points=4,
    min_points=10,
    cancel_window_ms=0,
    sessions=SessionRules(gap=GAP),
)


@pytest.fixture(scope="module")
def ordered() -> OrderedLog:
    """Sessions of up to 3 hours with pauses around the gap, and events at the same time."""
    rng = np.random.default_rng(3)
    times, types, who = [], [], []
    for user in range(150):
        moment = START + int(rng.uniform(0, 10 * 24 * HOUR))
        for _ in range(int(rng.integers(5, 60))):
            times.append(moment)
            types.append(int(rng.choice([1, 1, 1, 2, CART, PURCHASE])))
            who.append(user)
            steps = [0, 20_000, 3 * MINUTE, 14 * MINUTE, GAP, GAP + 1, 9 * HOUR]
            moment += int(rng.choice(steps, p=[0.1, 0.25, 0.25, 0.2, 0.1, 0.05, 0.05]))
    return in_order(log_of(who, times, types), None)


def split_of(ordered: OrderedLog) -> TimeSplit:
    times = ordered.log.events.time
    first, last = int(times.min()), int(times.max())
    return TimeSplit.of(first, last, 24 * HOUR, CONFIG.settle_ms, 0.2, 0.2)


@pytest.fixture(scope="module")
def examples(ordered: OrderedLog) -> Examples:
    return build_examples(ordered, TARGETS, split_of(ordered), CONFIG)


def test_targets_are_named_by_intent_and_window() -> None:
    names = ["purchase_in_session", "purchase_15m", "cart_in_session", "cart_15m", "leave"]
    assert [target.name for target in INTENTS] == names
    assert [target.horizon_ms for target in INTENTS] == [LONGEST, 15 * MINUTE] * 2 + [GAP]
    found = intent_targets(("cart",), (90_000, 2 * HOUR, 1_500), GAP, LONGEST)
    assert [target.name for target in found] == ["cart_90s", "cart_2h", "cart_1500ms"]
    assert of_purchases(TARGETS) == SHOP


@pytest.mark.slow
def test_labels_equal_a_walk_through_each_session(ordered: OrderedLog, examples: Examples) -> None:
    """The plain way: step from event to event until a pause is too long."""
    log = ordered.log
    # Of the purchases of one order only the first counts.
    types = np.where(order_starts(ordered) | (log.events.type != PURCHASE), log.events.type, 0)
    by_user = {
        user: (log.events.time[log.users == user], types[log.users == user])
        for user in np.unique(log.users)
    }
    checked = {target.name: [0, 0] for target in INTENTS}
    for point in range(len(examples)):
        now = int(examples.now[point])
        times, kinds = by_user[examples.user[point]]
        after = times > now
        end = now
        for time in times[after]:
            if time - end > GAP:
                break
            end = int(time)
        for column, target in enumerate(INTENTS, len(SHOP)):
            label = examples.labels[point, column]
            if np.isnan(label):
                continue
            if target.name == LEAVE:
                expected = end == now
            else:
                until = min(end, now + target.horizon_ms) if target.in_session else now + 900_000
                inside = after & (times <= until) & (kinds == target.event_type)
                expected = bool(inside.any())
            assert label == expected, (target, point)
            checked[target.name][int(label)] += 1
    assert all(min(both) > 60 for both in checked.values()), checked


@pytest.mark.slow
def test_intent_applies_at_events_only(ordered: OrderedLog, examples: Examples) -> None:
    at_event = examples.now == examples.time[examples.event]
    intents = examples.labels[:, len(SHOP) :]
    assert np.isnan(intents[~at_event]).all()
    _, counts = np.unique(examples.user[at_event], return_counts=True)
    assert CONFIG.event_points < counts.max() <= CONFIG.session_points


def test_other_targets_keep_their_examples(ordered: OrderedLog, examples: Examples) -> None:
    alone = build_examples(ordered, SHOP, split_of(ordered), CONFIG)
    known = ~np.isnan(examples.settled[:, : len(SHOP)]).all(axis=1)
    for name in ("user", "now", "seen", "labels", "settled"):
        whole, other = getattr(examples, name)[known], getattr(alone, name)
        if name in ("labels", "settled"):
            whole = whole[:, : len(SHOP)]
        assert np.array_equal(whole, other, equal_nan=True), name
    # Those without a label in their slice are set apart, also where an intent has one.
    assert 0 < len(alone.of_slice(UNLABELLED)) < len(alone)
    restricted = restrict(examples, list(range(len(SHOP))))
    for name in ("user", "now", "slice", "weight", "labels"):
        whole, other = getattr(restricted, name), getattr(alone, name)
        assert np.array_equal(whole, other, equal_nan=True), name


def test_hours_of_log_are_enough_for_an_intent_alone() -> None:
    rng = np.random.default_rng(5)
    who = [user for user in range(200) for _ in range(12)]
    times = [START + int(at) for at in np.sort(rng.uniform(0, 6 * HOUR, (200, 12))).ravel()]
    types = [int(kind) for kind in rng.choice([1, 1, CART, PURCHASE], len(who))]
    log = log_of(who, times, types)
    targets = intent_targets(("cart",), (5 * MINUTE,), GAP, LONGEST)
    split = TimeSplit.of(START, START + 6 * HOUR, 5 * MINUTE, CONFIG.settle_ms, 0.2, 0.2)
    found = build_examples(in_order(log, None), targets, split, CONFIG)
    inside = found.slice != UNLABELLED
    assert inside.sum() > 500
    assert not np.isnan(found.labels[inside]).any()
    assert np.isnan(found.labels[~inside]).all()
    assert not np.isnan(found.settled).any()


@pytest.mark.slow
def test_outcomes_give_the_labels_of_training(ordered: OrderedLog) -> None:
    """Every prediction at an event is judged by the label that training would give it."""
    joiner = OutcomeJoiner(OutcomeRules(TARGETS, 24 * HOUR, order_gap_ms=GAP, grace_ms=0))
    log = ordered.log.take(np.argsort(ordered.log.events.time, kind="stable"))
    events = log.events
    scores = {target.name: TargetScore(0.5, target.horizon_ms) for target in INTENTS}
    for i in range(len(log)):
        time, kind, user = int(events.time[i]), int(events.type[i]), str(log.users[i])
        line = Line(time, kind, int(events.id[i])) if kind == PURCHASE else None
        joiner.event(user, time, kind, line=line)
        said = prediction(user, (time - 1_600_000_000_000) / (24 * HOUR), offset=i)
        joiner.prediction(msgspec.structs.replace(said, targets=scores))
    joiner.event("clock", START + 3000 * HOUR, EventType.VIEW)
    joiner.prediction(prediction("clock", 125))
    found = {target.name: joiner.figures(target.name) for target in INTENTS}
    everything = replace(CONFIG, session_points=10**6)
    end = START + 3000 * HOUR
    points = draw_points(ordered, INTENTS, end, everything)
    whole = label_points(points, INTENTS, TimeSplit((0, 1, 2, end), 0)).labels
    for column, target in enumerate(INTENTS):
        figures = found[target.name]
        assert figures is not None
        # One prediction per user and moment, and none in the midst of an order.
        assert figures.matured > 0.7 * len(whole)
        assert figures.base_rate == pytest.approx(np.nanmean(whole[:, column]), abs=0.03)
