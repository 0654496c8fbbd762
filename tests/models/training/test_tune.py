"""The search begins with what there is, keeps to its budget, and does not do worse."""

from __future__ import annotations

import tomllib
from dataclasses import fields

import pytest

from models.data.dataset import Examples
from models.errors import TrainingError
from models.fitting.config import SEARCH_SPACE, FitConfig
from models.training import tune as tuning
from models.training.tune import Trial, as_toml, tune
from stream.cli.tune import SETTINGS
from stream.config.learning_settings import TrainSettings
from tests.models.fitting.small import CONFIG, TARGETS, small_examples

FIT = FitConfig(**(CONFIG | {"epochs": 2}))


@pytest.fixture(scope="module")
def examples() -> Examples:
    return small_examples()


@pytest.mark.full
def test_the_best_is_no_worse_than_the_beginning(examples: Examples) -> None:
    seen: list[Trial] = []
    found = tune(
        examples, TARGETS, "gru", FIT, hidden_size=8, seconds=60, most=4, report=seen.append
    )
    assert list(found.trials) == seen
    assert len(seen) == 4
    assert seen[0].settings["learning_rate"] == FIT.learning_rate
    assert seen[0].settings["windows"] == FIT.windows
    assert found.best.loss <= seen[0].loss
    assert found.config.learning_rate == found.best.settings["learning_rate"]
    assert found.config.epochs == FIT.epochs
    again = tune(examples, TARGETS, "gru", FIT, hidden_size=8, seconds=60, most=4)
    assert [(t.settings, t.loss) for t in again.trials] == [(t.settings, t.loss) for t in seen]


def test_one_trial_is_made_when_there_is_no_time(examples: Examples) -> None:
    found = tune(examples, TARGETS, "logistic", FIT, hidden_size=8, seconds=0)
    assert len(found.trials) == 1
    assert set(found.best.settings) == {"logistic_penalty"}


def test_a_search_without_any_result_says_so(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TrainingError("the loss is not finite")

    monkeypatch.setattr(tuning, "fit_network", fail)
    with pytest.raises(TrainingError, match="none of 2 trials of gru came to an end"):
        tune(examples, TARGETS, "gru", FIT, hidden_size=8, seconds=60, most=2)


def test_what_is_searched_are_settings() -> None:
    assert set(SEARCH_SPACE) <= {field.name for field in fields(FitConfig)}
    assert set(SETTINGS) == set(SEARCH_SPACE)
    read = tomllib.loads(as_toml(FIT, SETTINGS))
    settings = TrainSettings(**read["train"])
    assert settings.batch_size == FIT.windows
    assert settings.learning_rate == FIT.learning_rate
