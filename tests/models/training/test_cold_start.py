"""The purchase process as a first model: when it is published, and when it may raise alerts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.dataset import DatasetConfig
from models.errors import DatasetError, TrainingError
from models.evaluate import log_loss
from models.history import SessionRules, history_dtype
from models.inputs.apply import apply_in_order
from models.log.eventlog import EventLog, in_order
from models.serving.manifest import problems
from models.serving.scorer import Scorer
from models.targets import shop_targets
from models.training.cold_start import fit_cold_start
from models.training.train import TrainConfig, Trained
from tests.models.profiles import profile_of
from tests.models.shop import DAY, PURCHASE, START, log_of, shop_log

TARGETS = shop_targets(PURCHASE, 3 * DAY, 10 * DAY)
CONFIG = TrainConfig(dataset=DatasetConfig(cancel_window_ms=0))
NOW = START + 400 * DAY


def poisson_shop(users: int = 3000, days: int = 25, seed: int = 3, until: int = 60) -> EventLog:
    """Users who buy at random at rates of their own, until they leave after some order."""
    rng = np.random.default_rng(seed)
    who, times = [], []
    for user in range(users):
        first, rate, leaving = rng.uniform(0, days / 2), rng.gamma(1.0, 0.25), rng.beta(1.0, 4.0)
        moment = first
        while moment < until:
            who.append(user)
            times.append(START + int(moment * DAY))
            if moment > first and rng.random() < leaving:
                break
            moment += rng.exponential(1 / rate)
    return log_of(who, times, [PURCHASE] * len(who))


def fitted(log: EventLog, config: TrainConfig = CONFIG) -> Trained:
    return fit_cold_start(log, TARGETS, config, created_at=NOW, why="the log is short")


def scorer_of(trained: Trained) -> Scorer:
    return Scorer.of_script(trained.script, trained.manifest, "cpu")


@pytest.fixture(scope="module")
def published() -> Trained:
    return fitted(poisson_shop().until(START + 25 * DAY))


@pytest.mark.slow
def test_it_is_marked_and_tells_why(published: Trained) -> None:
    manifest = published.manifest
    assert manifest.cold_start
    assert manifest.raises
    assert "because the log is short" in manifest.choice
    assert list(problems(manifest)) == []
    assert {check.name for check in published.card.checks} == {
        "better than the prior",
        "calibrated",
    }
    assert all(check.passed for check in published.card.checks)


def test_it_predicts_later_absences_better_than_the_prior(published: Trained) -> None:
    log, cut = poisson_shop(), START + 25 * DAY
    early = in_order(log.until(cut), None)
    rows = np.repeat(np.arange(len(early.starts)), early.sizes)
    histories = np.zeros(len(early.starts), history_dtype(64))
    apply_in_order(histories, rows, early.log.events, SessionRules())
    profiles = profile_of(histories, np.arange(len(histories)), np.full(len(histories), cut))
    users = early.log.users[early.starts]
    later = (log.events.time > cut) & (log.events.time <= cut + 10 * DAY)
    absent = ~np.isin(users, log.users[later])
    hidden = np.zeros((len(users), 0), np.float32)
    losses = [
        log_loss(absent, scorer.probabilities(hidden, profiles)[:, 1])
        for scorer in (scorer_of(published), Scorer.rhythm(TARGETS))
    ]
    assert losses[0] < losses[1] - 0.02


def test_a_shop_that_closed_for_a_while_gets_none() -> None:
    """From day 17 on nobody orders, which the process could not foresee, until the last day."""
    log = poisson_shop(until=17)
    crowd = log_of(list(range(3100, 3300)), [START + 25 * DAY] * 200, [PURCHASE] * 200)
    later = replace(crowd.events, id=crowd.events.id + np.uint64(10**6))
    with pytest.raises(TrainingError, match="no better"):
        fitted(EventLog.join([log, EventLog(crowd.users, later)]))


def test_a_process_off_on_the_check_may_not_raise() -> None:
    """Half of those who would order again do not: better than the prior, and not calibrated."""
    log = poisson_shop().until(START + 25 * DAY)
    kept = (log.events.time < START + 18 * DAY) | (log.users % 3 > 0)
    assert not fitted(log.where(kept)).manifest.raises


def test_too_short_a_log_is_refused() -> None:
    with pytest.raises(DatasetError, match="less than the horizon of churn"):
        fitted(poisson_shop().until(START + 8 * DAY))


def test_too_few_orders_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"\d+ users have ordered .* needs 100 and 50"):
        fitted(shop_log(users=40, days=20))


@pytest.mark.slow
def test_late_events_count_as_in_serving() -> None:
    log = poisson_shop().until(START + 25 * DAY)
    mixed = log.take(np.random.default_rng(1).permutation(len(log)))
    in_any_order = replace(CONFIG, drop_late=False)
    assert fitted(mixed, in_any_order).script == fitted(log, in_any_order).script
    assert fitted(mixed).manifest.cleaning.late > 0
