"""The trainer's own model at fixed times: it learns nothing after the cut, and is compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import EvaluationError
from models.evaluation.contest import ContestConfig
from models.evaluation.published import (
    BASELINES,
    PUBLISHED,
    TASKS,
    ReturnTask,
    Shop,
    compared,
    run,
)
from models.evaluation.results import ModelResult, TaskResult
from models.log.eventlog import EventLog
from models.serving.scorer import Scorer
from models.targets import ABSENT, OCCURS
from tests.models.shop import DAY, PURCHASE, START, shop_log

pytestmark = pytest.mark.slow

DAYS = 120
TEST = tuple(
    str(np.datetime64(START + day * DAY, "ms").astype("datetime64[D]")) for day in (90, 95)
)
FIRST = str(np.datetime64(START + 40 * DAY, "ms").astype("datetime64[D]"))
CONFIG = ContestConfig(seeds=(0,))


def shop(log: EventLog) -> Shop:
    def read(path: Path) -> EventLog:
        return log

    return Shop("small", "A small shop", "none", read, FIRST, TEST)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return shop_log(users=400, days=DAYS)


@pytest.mark.full
def test_published_model_beats_the_base_rate(log: EventLog) -> None:
    models: dict[tuple[str, int, int], Scorer] = {}
    said: list[str] = []
    task = ReturnTask(shop(log), OCCURS, 7)
    result = run(task, log, CONFIG, said.append, models)
    assert set(result.models) == {*BASELINES, PUBLISHED}
    losses = {name: model.mean("log_loss") for name, model in result.models.items()}
    assert losses[PUBLISHED] < losses["base_rate"]
    assert any("best baseline" in note for note in result.notes)
    again = run(ReturnTask(shop(log), ABSENT, 7), log, CONFIG, said.append, models)
    assert len(models) == 1, "purchase and churn of a horizon come from one model"
    assert 0 < again.labels.mean() < 1
    version = models["small", 7, 0].version
    changed = replace(log, events=replace(log.events, type=_changed_after_the_cut(log)))
    later: dict[tuple[str, int, int], Scorer] = {}
    run(task, changed, CONFIG, said.append, later)
    assert later["small", 7, 0].version == version, "an event of the test changed the model"


def _changed_after_the_cut(log: EventLog) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    kind = log.events.type.copy()
    late = np.flatnonzero((log.events.time > START + 91 * DAY) & (kind == PURCHASE))
    kind[late[::2]] = 1
    return kind


def test_a_log_too_short_for_the_trainer_is_named(log: EventLog) -> None:
    with pytest.raises(EvaluationError, match=r"small_purchase_25d: the trainer published nothing"):
        run(ReturnTask(shop(log), OCCURS, 25), log, CONFIG, lambda _: None)


def test_difference_has_an_interval_over_users() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(5000)
    labels = (rng.random(5000) < truth).astype(np.float64)
    said = {name: [np.full(5000, labels.mean())] for name in BASELINES} | {PUBLISHED: [truth]}
    rows = {
        name: ModelResult(({"log_loss": 0.5 if name == PUBLISHED else 0.7},), "baseline")
        for name in said
    }
    result = TaskResult("t", "T", "log_loss", False, rows, labels=labels)
    users = np.arange(5000, dtype=np.uint64) // 5
    short, note = compared(result, said, users)
    assert short == "published is surely below base_rate"
    assert short in note
    assert "users resampled" in note
    same = said | {PUBLISHED: said["base_rate"]}
    assert "not surely apart" in compared(result, same, users)[0]
    turned = said | {name: [truth] for name in BASELINES} | {PUBLISHED: said["base_rate"]}
    assert compared(result, turned, users)[0] == (
        "**base_rate, a baseline, wins**; published is surely above base_rate"
    )


def test_training_labels_end_before_the_test() -> None:
    for task in TASKS:
        protocol = task.protocol()
        assert max(protocol.train) + task.days * DAY <= min(protocol.test)
        assert len(protocol.train) > 2
