"""Recalibrations mend drift, see nothing after their moment, and are refused where they harm."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.data.dataset import DatasetConfig, Examples, label_points
from models.data.timers import TimerRules
from models.errors import DatasetError
from models.inputs.features import PROFILE_FEATURES
from models.log.eventlog import EventLog
from models.populations import EVENT, TIMER
from models.serving.manifest import FitSpan
from models.serving.recalibration import BetaMap
from models.serving.thresholds import Budget
from models.targets import shop_targets
from models.training.budget import AlertRules
from models.training.recalibrate import (
    Fit,
    RecalibrationRules,
    fit_maps,
    fit_threshold,
    mapped,
    matured_examples,
    matured_points,
    not_learnt,
)
from models.training.refit import held_out
from tests.logs import gru_manifest, random_gru
from tests.models.shop import DAY, PURCHASE, START, shop_log

TARGETS = shop_targets(PURCHASE, 3 * DAY, 10 * DAY)
CONFIG = DatasetConfig(history_length=8, grace_ms=600_000, cancel_window_ms=DAY)
RULES = RecalibrationRules(window_ms=14 * DAY, min_labels=60, min_users=60, points=30)
UNTIL = START + 60 * DAY
TIMERS = TimerRules(0.25, 1.25, DAY, 7 * DAY)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return shop_log(users=400, days=80)


def examples_of(log: EventLog, until: int = UNTIL) -> Examples:
    return matured_examples(log, TARGETS, CONFIG, until, RULES, drop_late=True)


@pytest.fixture(scope="module")
def examples(log: EventLog) -> Examples:
    return examples_of(log)


def oracle(examples: Examples) -> np.ndarray:
    """Probabilities as calibrated as can be: the rate of each user's labels, blurred."""
    rng = np.random.default_rng(1)
    return np.clip(rng.beta(3, 3, examples.labels.shape), 0.02, 0.98)


def fit(examples: Examples, said: np.ndarray, until: int = UNTIL, **rules: int) -> Fit:
    return fit_maps(examples, said, TARGETS, until, CONFIG.settle_ms, replace(RULES, **rules))


def test_examples_are_of_labels_that_matured_within_the_window(examples: Examples) -> None:
    assert 0.2 < examples.at_event.mean() < 0.8
    for column, target in enumerate(TARGETS):
        known = ~np.isnan(examples.labels[:, column])
        complete = examples.now[known] + target.horizon_ms + CONFIG.settle_ms
        assert complete.max() <= UNTIL
        recent = complete > UNTIL - RULES.window_ms
        for part in (examples.at_event[known], ~examples.at_event[known]):
            assert (recent & part).sum() > 200


@pytest.mark.slow
def test_what_comes_after_the_moment_changes_nothing(log: EventLog, examples: Examples) -> None:
    """Neither events nor labels: a whole log and one cut at the moment give the same bits."""
    assert (log.events.time > UNTIL).sum() > 100
    cut = log.where(log.events.time <= UNTIL)
    again = examples_of(cut)
    for name in Examples.__slots__:
        assert np.array_equal(getattr(examples, name), getattr(again, name), equal_nan=True), name
    said = oracle(examples)
    assert fit(examples, said) == fit(again, said)


@pytest.mark.slow
def test_a_label_that_is_complete_later_changes_nothing(examples: Examples) -> None:
    said, early = oracle(examples), UNTIL - 5 * DAY
    found = fit(examples, said, early)
    assert found.maps
    turned = replace_labels(examples)
    for column, target in enumerate(TARGETS):
        late = examples.now + target.horizon_ms + CONFIG.settle_ms > early
        assert late.sum() > 50
        turned.labels[late, column] = 1 - turned.labels[late, column]
    assert fit(turned, said, early) == found
    turned.labels[:] = 1 - turned.labels
    assert fit(turned, said, early) != found


def replace_labels(examples: Examples) -> Examples:
    columns = {name: getattr(examples, name) for name in Examples.__slots__}
    return Examples(**columns | {"labels": examples.labels.copy()})


def shifted(examples: Examples, known: BetaMap, seed: int = 2) -> tuple[Examples, np.ndarray]:
    """Labels drawn at events by a map of what is predicted, in inactivity as it is."""
    rng = np.random.default_rng(seed)
    said = np.clip(rng.beta(2, 2, examples.labels.shape), 0.01, 0.99)
    truth = said.copy()
    logit = known.a * np.log(said) - known.b * np.log1p(-said) + known.c
    truth[examples.at_event] = (1 / (1 + np.exp(-logit)))[examples.at_event]
    drawn = replace_labels(examples)
    drawn.waited = np.empty((0, 0), np.int64)  # what is known of open labels would contradict
    unknown = np.isnan(examples.labels)
    drawn.labels[:] = np.where(unknown, np.nan, rng.random(truth.shape) < truth)
    return drawn, said


def test_a_population_that_drifted_is_mapped_and_the_other_is_not(examples: Examples) -> None:
    drawn, said = shifted(examples, BetaMap(0.7, 1.3, -1.0))
    found = fit(drawn, said, tolerance=0)
    assert set(found.maps) == {EVENT}
    assert set(found.maps[EVENT]) == {"purchase", "churn"}
    by_place = {(one.target, one.population): one for one in found.findings}
    assert len(by_place) == 4
    for target in ("purchase", "churn"):
        mended = by_place[target, EVENT]
        assert mended.kept
        assert mended.figures["high"] <= 0
        assert mended.figures["after.ece"] < mended.figures["before.ece"] / 2
        half = mapped(found.maps[EVENT][target], np.array([0.5]))
        assert half == pytest.approx(0.358, abs=0.06), "sigmoid(0.6 ln 2 - 1)"
        as_it_is = by_place[target, TIMER]
        assert not as_it_is.kept
        assert "on users held out" in as_it_is.why


def test_a_map_that_harms_the_users_held_out_is_refused(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, said = shifted(examples, BetaMap(1.0, 1.0, 0.0))
    worse = BetaMap(1.0, 1.0, 2.0)
    monkeypatch.setattr("models.training.recalibrate.fit_beta", lambda *_: worse)
    found = fit(drawn, said)
    assert found.maps == {}
    assert all("not surely as good" in one.why for one in found.findings)
    assert all(one.figures["low"] > 0 for one in found.findings)


def test_too_few_labels_leave_the_model_as_it_is(examples: Examples) -> None:
    drawn, said = shifted(examples, BetaMap(1.0, 1.0, -1.0))
    assert fit(drawn, said, min_labels=10_000_000).maps == {}
    few = fit(drawn, said, min_users=10_000)
    assert few.maps == {}
    assert all("users, at least" in one.why for one in few.findings)
    one_class = replace_labels(drawn)
    one_class.labels[:] = np.where(np.isnan(drawn.labels), np.nan, 1)
    assert all("users with label 0" in one.why for one in fit(one_class, said).findings)


def test_labels_that_the_model_learnt_from_are_left_out(examples: Examples) -> None:
    last = int(np.median(examples.now))
    network = random_gru()
    manifest = msgspec.structs.replace(gru_manifest(network, "m"), served=FitSpan(last=last))
    left = not_learnt(examples, manifest)
    known = ~np.isnan(left.labels).all(axis=1)
    complete = ~np.isnan(examples.labels).all(axis=1)
    later = examples.now > last
    assert np.array_equal(known[later], complete[later])
    held = held_out(examples.user)
    assert np.array_equal(known[~later], held[~later])
    assert 0.1 < held.mean() < 0.5


def test_a_map_says_what_a_worker_would(examples: Examples) -> None:
    said = oracle(examples)[:, 0]
    assert mapped(BetaMap(1.0, 1.0, 0.0), said) == pytest.approx(said, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_threshold_is_found_on_the_mapped_risks_of_matured_labels(
    log: EventLog, shift: float
) -> None:
    config = replace(CONFIG, timers=TIMERS)
    points, split = matured_points(log, TARGETS, config, UNTIL, RULES, drop_late=True)
    timers = label_points(points, TARGETS, split, timers=True)
    column = PROFILE_FEATURES.index("log_overdue")
    risk = 1 - np.exp(-timers.profile[:, column].astype(np.float64))
    said = np.stack([1 - risk, risk], axis=1)
    maps = {TIMER: {"churn": BetaMap(1.0, 1.0, shift)}}
    given = (said, TARGETS, Fit(maps, ()), UNTIL, CONFIG.settle_ms, RULES, 0.18, split.edges[0])
    found = fit_threshold(timers, *given)
    assert found is not None
    assert found.risk is not None, found.why
    assert found.right >= 0.18
    plain = fit_threshold(timers, said, TARGETS, Fit({}, ()), *given[3:])
    assert plain is not None
    assert plain.risk is not None
    assert (found.alerts, found.right) == (plain.alerts, plain.right)
    odds = found.risk / (1 - found.risk) / (plain.risk / (1 - plain.risk))
    assert odds == pytest.approx(np.exp(shift), rel=1e-3)
    # Labels that are complete later, or were learnt from, change nothing.
    later = timers.now + 10 * DAY + CONFIG.settle_ms > UNTIL
    assert not later.any() or np.isnan(timers.settled[later]).all()
    none = replace(timers, labels=np.full_like(timers.labels, np.nan))
    assert "at least 50" in getattr(fit_threshold(none, *given), "why", "")


def test_a_budget_counts_days_up_to_the_last_points(log: EventLog) -> None:
    """A trainer that goes on draws points up to its cut: after it there are no alerts to count."""
    config = replace(CONFIG, timers=TIMERS)
    points, split = matured_points(log, TARGETS, config, UNTIL, RULES, drop_late=True)
    cut = UNTIL - 7 * DAY
    points = points.take(np.flatnonzero(points.now <= cut))
    timers = label_points(points, TARGETS, split, timers=True, open_too=True)
    column = PROFILE_FEATURES.index("log_overdue")
    risk = 1 - np.exp(-timers.profile[:, column].astype(np.float64))
    said = np.stack([1 - risk, risk], axis=1)
    budget = AlertRules(per_day=4, window_ms=28 * DAY)

    def found(until: int, counted: int | None) -> Budget | None:
        each = fit_threshold(
            *(timers, said, TARGETS, Fit({}, ()), until, CONFIG.settle_ms, RULES, None),
            budget=budget,
            counted=counted,
        )
        return None if each is None else each.budget

    whole, late = found(UNTIL, cut), found(UNTIL, None)
    assert whole == found(cut, None)
    assert whole is not None
    assert whole.expected == pytest.approx(4, abs=0.5)
    assert whole.risk is not None
    assert late is not None
    assert late.risk is not None
    assert late.risk < whole.risk, "days without points make room for alerts that are none"


def test_a_log_that_begins_later_gives_nothing(log: EventLog) -> None:
    with pytest.raises(DatasetError, match="no event before the moment"):
        examples_of(log, START - DAY)
