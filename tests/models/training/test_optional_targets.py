"""Each target is optional, evaluated and published by itself; the reason names its setting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.dataset import DatasetConfig
from models.errors import DatasetError, TrainingError
from models.fitting.fit import FitConfig
from models.log.eventlog import EventLog
from models.serving.scorer import Scorer
from models.targets import shop_targets
from models.training.train import TrainConfig, Trained, train
from schemas.events import EventType
from stream.config.loading import load_settings
from stream.config.targets import cancel_window_of, targets_of
from tests.models.shop import CART, DAY, PURCHASE, START, VIEW, log_of

pytestmark = pytest.mark.slow

HOUR = 3_600_000
MINUTE = 60_000
NOW = START + 200 * DAY
CONFIG = TrainConfig(
    dataset=DatasetConfig(history_length=16, min_points=50),
    fit=FitConfig(epochs=2, windows=64, learning_rate=3e-3),
    hidden_size=8,
    candidates=("logistic",),
)
TARGETS = shop_targets(PURCHASE, DAY, 10 * DAY)


def sessions_log(
    users: int, span: int, visits: int, wait: int, *, once: bool = False, seed: int = 4
) -> EventLog:
    """Visits of three views, one in three with a cart, after which most buy within `wait`.

    With `once` a user buys once and is gone. When users come says nothing about them.
    """
    rng = np.random.default_rng(seed)
    who, times, types = [], [], []
    for user in range(users):
        for moment in np.sort(rng.uniform(0, span, visits)).astype(int).tolist():
            begun = START + moment
            cart = rng.random() < 1 / 3
            times += [begun, begun + MINUTE // 2, begun + MINUTE]
            types += [VIEW, VIEW, CART if cart else VIEW]
            who += [user] * 3
            if rng.random() < (0.8 if cart else 0.03):
                times.append(begun + MINUTE + int(rng.uniform(0.1, 0.9) * wait))
                types.append(PURCHASE)
                who.append(user)
                if once:
                    break
    return log_of(who, times, types, seed)


def run(log: EventLog, config: TrainConfig = CONFIG, **options: object) -> Trained:
    return train(log, TARGETS, config, created_at=NOW, device="cpu", **options)  # type: ignore[arg-type]


def test_a_shop_of_one_off_buyers_gets_its_purchase_model() -> None:
    found = run(sessions_log(500, 60 * DAY, 8, DAY // 2, once=True))
    assert [target.name for target in found.manifest.targets] == ["purchase"]
    assert found.manifest.metrics["purchase.roc_auc"] > 0.7
    assert set(found.manifest.left_out) == {"churn"}
    assert "train.churn_horizon_ms" in found.manifest.left_out["churn"]
    assert "- not predicted: target churn: 0 labelled points" in found.card.markdown()
    served = Scorer.of_script(found.script, found.manifest)
    assert [target.name for target in served.targets] == ["purchase"]
    assert set(found.manifest.window.positives["train"]) == {"purchase"}


def test_a_horizon_of_minutes_needs_a_log_of_hours() -> None:
    settings = load_settings(overrides={"train": {"purchase_horizon_ms": "30m"}})
    targets = targets_of(settings)
    dataset = replace(CONFIG.dataset, cancel_window_ms=cancel_window_of(settings))
    log = sessions_log(600, 6 * HOUR, 6, 25 * MINUTE)
    config = replace(CONFIG, dataset=dataset)
    found = train(log, targets, config, created_at=NOW, device="cpu").manifest
    assert [target.name for target in found.targets] == ["purchase"]
    assert found.metrics["purchase.roc_auc"] > 0.7
    assert "too little for a horizon of 720.0 h" in found.left_out["churn"]
    assert found.left_out["churn"].endswith("shorten train.churn_horizon_ms")


@pytest.mark.parametrize("architecture", ["logistic", "blend", "gru"])
def test_networks_train_on_a_log_without_any_order(architecture: str) -> None:
    log = sessions_log(400, 60 * DAY, 8, DAY // 2)
    # What follows a favourite is an addition to the cart; nobody ever buys.
    kinds = log.events.type
    kinds[:] = np.select([kinds == CART, kinds == PURCHASE], [EventType.FAVOURITE, CART], kinds)
    targets = shop_targets(PURCHASE, DAY, 10 * DAY, cart_horizon_ms=DAY)
    config = replace(CONFIG, candidates=(architecture,))
    found = train(log, targets, config, created_at=NOW, device="cpu").manifest
    assert [target.name for target in found.targets] == ["cart"]
    assert "one class only" in found.left_out["purchase"]
    assert "train.purchase_horizon_ms" in found.left_out["purchase"]


def test_a_target_that_fails_the_gate_does_not_hold_up_the_others() -> None:
    log = sessions_log(400, 70 * DAY, 25, DAY // 2)
    found = run(log)
    assert [target.name for target in found.manifest.targets] == ["purchase"]
    why = found.manifest.left_out["churn"]
    assert why.startswith("target churn did not pass the gate: ")
    assert "train.churn_horizon_ms" in why
    assert {check.target for check in found.card.checks} <= {"purchase", ""}
    assert all(check.passed for check in found.card.checks)


@pytest.mark.full
def test_a_target_that_is_served_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    log = sessions_log(500, 60 * DAY, 8, DAY // 2, once=True)
    found = run(log)
    champion = Scorer.of_script(found.gated or b"", found.manifest)
    run(log, champion=champion)
    monkeypatch.setattr(champion, "targets", TARGETS)
    with pytest.raises(TrainingError, match=r"predicts what this model would not: target churn"):
        run(log, champion=champion)
    monkeypatch.setattr(champion, "cold_start", True)
    monkeypatch.setattr(champion, "targets", found.manifest.targets)
    assert run(log, champion=champion).manifest.left_out


def test_nothing_is_published_where_no_target_can_be_learnt() -> None:
    views = log_of([1, 2] * 500, [START + k * DAY // 10 for k in range(1000)], [VIEW] * 1000)
    with pytest.raises(DatasetError, match=r"target purchase: .*; target churn: "):
        run(views)


def test_a_target_can_be_unset() -> None:
    settings = load_settings(overrides={"train": {"churn_horizon_ms": "none"}})
    assert [target.name for target in targets_of(settings)] == ["purchase"]
    settings = load_settings(overrides={"train": {"purchase_horizon_ms": "none"}})
    assert [target.name for target in targets_of(settings)] == ["churn"]
    assert cancel_window_of(settings) == DAY
