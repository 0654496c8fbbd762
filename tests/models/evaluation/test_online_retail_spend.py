"""The spend of a made-up shop is told by who buys how often and for how much."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation import online_retail_return, online_retail_spend
from models.evaluation.contest import ContestConfig
from models.evaluation.cuts import cut_points
from models.evaluation.online_retail_spend import BASELINES, bound, evaluate, protocol
from models.evaluation.sources import DAY
from models.fitting.fit import FitConfig
from models.history import AMOUNT_UNIT, PURCHASE, Events
from models.log.eventlog import EventLog

pytestmark = pytest.mark.slow

START = int(np.datetime64("2010-12-01", "ms").astype(np.int64))
DAYS = 373
BUYERS = 1000


def shop(seed: int = 0) -> EventLog:
    """Every buyer has a rate and a usual amount of their own."""
    rng = np.random.default_rng(seed)
    users, times, amounts = [], [], []
    for user in range(BUYERS):
        count = rng.poisson(rng.lognormal(1.2, 0.9))
        users += [user] * count
        times += rng.integers(START, START + DAYS * DAY, count).tolist()
        amounts += (rng.lognormal(3, 0.8) * rng.lognormal(0, 0.2, count)).tolist()
    size = len(users)
    events = Events(
        time=np.array(times, np.int64),
        id=np.arange(size, dtype=np.uint64),
        type=np.full(size, PURCHASE, np.uint8),
        item=np.zeros(size, np.uint32),
        category=np.zeros(size, np.uint16),
        amount=np.round(np.array(amounts) * AMOUNT_UNIT).astype(np.int64),
        order=np.zeros(size, np.uint32),
        quantity=np.ones(size, np.uint32),
    )
    return EventLog(users=np.array(users, np.uint64), events=events)


def test_labels_are_what_is_spent_up_to_the_bound() -> None:
    log = shop()
    most = bound(log, seed=0)
    points = cut_points(log, protocol(most), seed=0)
    returned = cut_points(log, online_retail_return.protocol(), seed=0)
    share = points.examples.labels[:, 0]
    assert np.array_equal(share > 0, returned.examples.labels[:, 0] > 0)
    for at in range(0, len(share), 37):
        cut = points.cut[at]
        own = log.users == points.user[at]
        own &= (log.events.time >= cut) & (log.events.time < cut + online_retail_return.HORIZON)
        spent = log.events.amount[own].sum() / AMOUNT_UNIT
        assert share[at] == pytest.approx(min(spent / most, 1), abs=1e-6)
    assert 0 < (share == 1).mean() < 0.02


def test_who_spends_much_is_expected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_retail_spend, "find", lambda *_: None)
    monkeypatch.setattr(online_retail_spend, "read_online_retail", lambda _: shop())
    config = ContestConfig(
        seeds=(0,), networks=("logistic",), fit=FitConfig(logistic_steps=60, seed=0)
    )
    (result,) = evaluate((), config, lambda _: None)
    assert set(result.models) == {*BASELINES, "logistic"}
    deviance = {name: model.mean("deviance") for name, model in result.models.items()}
    assert max(deviance["logistic"], deviance["boosting"]) < 0.7 * deviance["base_rate"]
    assert deviance["order_value_scaled"] < 0.7 * deviance["base_rate"]
    assert min(result.models[name].mean("gini") for name in ("logistic", "boosting")) > 0.6
    scaled, plain = (
        result.models[name].mean("bias") for name in ("order_value_scaled", "order_value")
    )
    assert plain < -0.3 < scaled < 0.3
