"""Points at cuts: known before, labelled after, and nothing of the one in the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.split import CALIBRATION, STOPPING, TRAIN, VALIDATION
from models.errors import EvaluationError
from models.evaluation.cuts import Protocol, cut_points
from models.log.eventlog import EventLog
from models.targets import ABSENT, OCCURS, Target
from tests.models.shop import DAY, PURCHASE, START, VIEW, log_of, shop_log

WEEK = 7 * DAY


def protocol(train: tuple[int, ...], test: tuple[int, ...], **more: object) -> Protocol:
    days = [tuple(START + day * DAY for day in cuts) for cuts in (train, test)]
    return Protocol(Target("buys", OCCURS, PURCHASE, WEEK), *days, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def log() -> EventLog:
    return shop_log(users=120, days=60)


def test_labels_are_what_the_log_says(log: EventLog) -> None:
    points = cut_points(log, protocol((20, 30), (45,)), seed=0)
    examples = points.examples
    for index in range(0, len(examples), 7):
        mine = log.users == points.user[index]
        cut = points.cut[index]
        times, types = log.events.time[mine], log.events.type[mine]
        assert points.last_seen[index] == times[times < cut].max()
        after = (times >= cut) & (times < cut + WEEK) & (types == PURCHASE)
        assert examples.labels[index, 0] == after.any()


def test_an_event_at_the_cut_is_part_of_the_label() -> None:
    who, when, what = [], [], []
    for user in range(40):
        who += [user, user]
        # At both cuts; half of the users only look.
        when += [START, START + 20 * DAY]
        what += [VIEW, PURCHASE if user % 2 else VIEW]
    everybody = log_of([*who, 99, 99], [*when, START + 1, START + 60 * DAY], [*what, VIEW, VIEW])
    at = protocol((1,), (20,))
    more = log_of(list(range(20)), [START + 3 * DAY] * 20, [PURCHASE] * 20)
    points = cut_points(EventLog.join([everybody, more]), at, seed=1)
    test = points.of_slice(VALIDATION)
    assert (points.last_seen[test] < START + 20 * DAY).all()
    assert points.examples.labels[test, 0].sum() == 20


def test_a_planted_future_cannot_be_seen(log: EventLog) -> None:
    """Whatever happens after the test's labels, or after a cut, changes no input before it."""
    at = protocol((20, 30), (45,))
    before = cut_points(log, at, seed=0)
    planted = log_of([3] * 50, [START + 46 * DAY + i for i in range(50)], [PURCHASE] * 50)
    after = cut_points(EventLog.join([log, planted]), at, seed=0)
    assert np.array_equal(before.examples.profile, after.examples.profile)
    assert np.array_equal(before.last_seen, after.last_seen)
    learnt = before.examples.slice != VALIDATION
    assert np.array_equal(before.examples.labels[learnt], after.examples.labels[learnt])


def test_slices_share_no_user_between_learning_and_calibration(log: EventLog) -> None:
    points = cut_points(log, protocol((20, 25), (45,)), seed=3)
    train, stop, calibration = (
        set(points.user[points.of_slice(which)].tolist())
        for which in (TRAIN, STOPPING, CALIBRATION)
    )
    assert train
    assert stop
    assert calibration
    assert not train & calibration
    assert not stop & (train | calibration)
    assert set(points.user[points.learnt].tolist()) == train | stop
    other = cut_points(log, protocol((20, 25), (45,)), seed=4)
    assert set(other.user[other.of_slice(CALIBRATION)].tolist()) != calibration


def test_cuts_count_alike_or_less_with_age(log: EventLog) -> None:
    for half_life, expected in ((None, 1.0), (10 * DAY, 0.5)):
        points = cut_points(log, protocol((20, 30), (45,), half_life_ms=half_life), seed=0)
        weight = points.examples.weight
        old, new = (points.cut == START + day * DAY for day in (20, 30))
        assert weight[old].sum() / weight[new].sum() == pytest.approx(expected, rel=1e-4)


def test_who_counts(log: EventLog) -> None:
    at = protocol((20, 30), (45,))
    every = cut_points(log, at, seed=0)
    known = cut_points(log, replace(at, known_ms=15 * DAY), seed=0)
    assert 0 < len(known.user) < len(every.user)
    tenure = known.examples.profile[:, 2]
    assert (np.expm1(tenure) >= 15 * 24 - 0.01).all()
    absent = replace(at, target=replace_kind(at.target))
    churn = cut_points(log, absent, seed=0)
    assert np.array_equal(churn.examples.labels, 1 - every.examples.labels)


def replace_kind(target: Target) -> Target:
    return Target(target.name, ABSENT, target.event_type, target.horizon_ms)


def test_bad_data_is_refused(log: EventLog) -> None:
    with pytest.raises(EvaluationError, match="the log is empty"):
        cut_points(log.where(np.zeros(len(log), np.bool_)), protocol((20,), (45,)), seed=0)
    with pytest.raises(EvaluationError, match="reaches beyond"):
        cut_points(log, protocol((40,), (45,)), seed=0)
    with pytest.raises(EvaluationError, match="the horizon is longer than the data"):
        cut_points(log, protocol((20,), (70,)), seed=0)
    views = log.where(log.events.type == VIEW)
    with pytest.raises(EvaluationError, match="one class only among"):
        cut_points(views, protocol((20,), (45,)), seed=0)
    with pytest.raises(EvaluationError, match="nobody is known at"):
        cut_points(log, protocol((-30,), (45,)), seed=0)
