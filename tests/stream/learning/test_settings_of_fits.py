"""The settings under `train` give the targets, and how networks are fitted to them."""

from pathlib import Path

import pytest

from models.fitting.config import FitConfig
from stream.config.durations import DAY_MS
from stream.config.learning_settings import TrainSettings
from stream.config.targets import targets_of
from stream.learning.trainer import config_of, fit_of
from tests.stream.training_tools import settings_for


def test_settings_give_targets_and_how_networks_are_fitted(tmp_path: Path) -> None:
    plain = settings_for(tmp_path / "models")
    assert [target.name for target in targets_of(plain)] == ["purchase", "churn"]
    assert fit_of(plain).task_weights == ()
    assert fit_of(plain).pretrain_epochs == 0
    passes = plain.model_copy(update={"train": TrainSettings(pretrain_epochs=3)})
    assert fit_of(passes).pretrain_epochs == 3
    chosen = {
        "pretrain_task": "next_event",
        "pretrain_mask": 0.3,
        "next_action_weight": 0.2,
        "oldest_weight": 0.5,
    }
    fit = fit_of(plain.model_copy(update={"train": TrainSettings(**chosen)}))
    assert {name: getattr(fit, name) for name in chosen} == chosen
    assert fit_of(plain).oldest_weight == FitConfig.oldest_weight
    for wrong in (0, 1.1):
        with pytest.raises(ValueError, match="oldest_weight"):
            TrainSettings(oldest_weight=wrong)
    intent = {"intent": ("purchase",)}
    unset = {"pretrain_epochs": 0, "next_action_weight": 0}
    for given, expected in (({}, (0, 0)), (intent, (4, 0.1)), (intent | unset, (0, 0))):
        fit = fit_of(plain.model_copy(update={"train": TrainSettings(**given)}))
        assert (fit.pretrain_epochs, fit.next_action_weight) == expected
    train = {"cart_horizon_ms": 2 * DAY_MS, "task_weights": {"churn": 2.0}}
    wished = plain.model_copy(update={"train": TrainSettings(**train)})
    assert [target.name for target in targets_of(wished)] == ["purchase", "churn", "cart"]
    assert targets_of(wished)[2].horizon_ms == 2 * DAY_MS
    assert fit_of(wished).task_weights == (1.0, 2.0, 1.0)
    with pytest.raises(ValueError, match="greater than 0"):
        TrainSettings(task_weights={"churn": 0.0})


def test_a_wait_is_learnt_in_bins_where_the_settings_have_edges(tmp_path: Path) -> None:
    plain = settings_for(tmp_path / "models")
    assert fit_of(plain).questions == ()
    train = {"wait_edges_ms": ["12h", "2d", 7 * DAY_MS], "task_weights": {"wait": 3.0}}
    wished = plain.model_copy(update={"train": TrainSettings(**train)})
    *shop, first, second, third = targets_of(wished)
    assert [target.name for target in shop] == ["purchase", "churn"]
    bins = [(bin_.after_ms, bin_.horizon_ms) for bin_ in (first, second, third)]
    assert bins == [(0, DAY_MS // 2), (DAY_MS // 2, 2 * DAY_MS), (2 * DAY_MS, 7 * DAY_MS)]
    assert fit_of(wished).questions == ("purchase", "churn", "wait", "wait", "wait")
    assert fit_of(wished).task_weights == (1.0, 1.0, 3.0, 3.0, 3.0)
    for wrong in (["2d", "1d"], ["0s", "1d"], ["1d", "1d"]):
        with pytest.raises(ValueError, match="ascending times above 0"):
            TrainSettings(wait_edges_ms=wrong)
    with pytest.raises(ValueError, match="at most 32"):
        TrainSettings(wait_edges_ms=range(1, 34))


def test_a_spend_is_learnt_where_the_settings_have_a_bound(tmp_path: Path) -> None:
    plain = settings_for(tmp_path / "models")
    train = {"spend_cap": 500, "purchase_horizon_ms": "3d", "task_weights": {"spend": 0.5}}
    wished = plain.model_copy(update={"train": TrainSettings(**train)})
    spend = targets_of(wished)[-1]
    assert (spend.name, spend.kind, spend.most) == ("spend", "amount", 500)
    assert spend.horizon_ms == 3 * DAY_MS
    assert fit_of(wished).task_weights == (1.0, 1.0, 0.5)
    with pytest.raises(ValueError, match="greater than 0"):
        TrainSettings(spend_cap=0)


def test_intent_of_sessions_follows_the_settings(tmp_path: Path) -> None:
    plain = settings_for(tmp_path / "models")
    train = TrainSettings(
        intent=("cart", "leave"),
        intent_within=("session", "5m"),
        intent_longest_ms="1h",
        intent_points=9,
    )
    wished = plain.model_copy(update={"train": train})
    cart, soon, leave = targets_of(wished)[2:]
    assert (cart.name, cart.horizon_ms, cart.in_session) == ("cart_in_session", DAY_MS // 24, True)
    assert (soon.name, soon.horizon_ms, soon.in_session) == ("cart_5m", 300_000, False)
    assert (leave.name, leave.horizon_ms) == ("leave", wished.state.session_gap_ms)
    assert config_of(wished, drop_late=True).dataset.session_points == 9
    with pytest.raises(ValueError, match="greater than or equal to 1000"):
        TrainSettings(intent_within=("5ms",))
    with pytest.raises(ValueError, match="at least 1 item"):
        TrainSettings(intent_within=())
