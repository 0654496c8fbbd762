"""The contest on a small shop: all take part, figures are of the test, bad wishes are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from models.errors import ModelError
from models.evaluate import log_loss
from models.evaluation.contest import ContestConfig, binary_task, chosen_penalty
from models.evaluation.cuts import Protocol, cut_points
from models.evaluation.results import TaskResult, to_json
from models.fitting.fit import FitConfig
from models.log.eventlog import EventLog
from models.targets import OCCURS, Target
from tests.models.shop import DAY, PURCHASE, START, shop_log

pytestmark = pytest.mark.slow

PROTOCOL = Protocol(
    Target("buys", OCCURS, PURCHASE, 7 * DAY),
    train=(START + 25 * DAY, START + 35 * DAY),
    test=(START + 45 * DAY, START + 50 * DAY),
)
CONFIG = ContestConfig(
    seeds=(0, 1),
    networks=("logistic", "blend", "gru"),
    fit=FitConfig(epochs=1, windows=128, logistic_steps=30),
)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return shop_log(users=100, days=60)


@pytest.fixture(scope="module")
def result(log: EventLog) -> TaskResult:
    said: list[str] = []
    found = binary_task("shop", "A shop", log, PROTOCOL, CONFIG, said.append)
    assert any("penalty" in line for line in said)
    return found


def test_all_take_part_and_the_best_is_the_default(result: TaskResult) -> None:
    baselines = {"base_rate", "recency", "frequency", "bg_nbd", "boosting"}
    assert set(result.models) == baselines | set(CONFIG.networks) | {"linear_pair", "committee"}
    losses = {name: model.mean("log_loss") for name, model in result.models.items()}
    assert losses[result.default] == min(losses.values())
    assert losses["logistic"] < losses["base_rate"]
    assert result.models["blend"].mean("auroc") > 0.6
    assert result.models["bg_nbd"].mean("auroc") > 0.6
    assert all(len(model.seeds) == 2 for model in result.models.values())
    assert set(result.curves) == {"gru"}


def test_figures_are_those_of_the_probabilities(result: TaskResult) -> None:
    told = result.probabilities["blend"]
    assert len(told) == len(result.labels)
    expected = log_loss(result.labels, told)
    assert result.models["blend"].seeds[0]["log_loss"] == pytest.approx(expected)
    assert sum(part.points for part in result.slices if "cut" in part.name) == len(told)


def test_json_has_the_promised_form(result: TaskResult) -> None:
    document = json.loads(json.dumps(to_json([result])))
    task = document["tasks"]["shop"]
    assert task["default"] == result.default
    row = task["models"]["boosting"]
    assert {"auroc", "pr_auc", "log_loss", "ece", "seeds"} <= set(row)
    assert row["auroc"] == pytest.approx(
        np.mean([seed["auroc"] for seed in row["seeds"]]), abs=1e-6
    )
    assert row["kind"] == "baseline"


def test_the_penalty_is_chosen_without_the_test(log: EventLog) -> None:
    chosen = chosen_penalty(cut_points(log, PROTOCOL, 0), PROTOCOL, CONFIG)
    end = max(PROTOCOL.train) + PROTOCOL.target.horizon_ms
    later = log.events.time >= end
    shuffled = log.where(~later)
    rest = log.where(later)
    rest.users = np.roll(rest.users, 7)
    other = EventLog.join([shuffled, rest])
    assert chosen_penalty(cut_points(other, PROTOCOL, 0), PROTOCOL, CONFIG) == chosen


def test_the_same_seed_gives_the_same_figures(log: EventLog, result: TaskResult) -> None:
    config = replace(CONFIG, seeds=(0,), networks=("logistic", "gru"))
    again = binary_task("shop", "A shop", log, PROTOCOL, config)
    for name in ("recency", "logistic", "gru", "boosting"):
        assert again.models[name].seeds[0] == result.models[name].seeds[0]


def test_an_unknown_architecture_is_refused(log: EventLog) -> None:
    wrong = replace(CONFIG, networks=("mamba",))
    with pytest.raises(ModelError, match="unknown architecture 'mamba'"):
        binary_task("shop", "A shop", log, PROTOCOL, wrong)
