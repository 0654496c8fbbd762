"""Parts in processes of their own: the same results in the same order, whatever fails beside."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import pytest

from models.errors import EvaluationError
from models.evaluation.contest import ContestConfig, Say
from models.evaluation.pool import THREADS, IncompleteEvaluation, Part, evaluate_parts
from models.evaluation.results import ModelResult, TaskResult, to_json
from models.evaluation.sources import TAOBAO, TAOBAO_START
from models.evaluation.tasks import ON_FILES

DAY_S = 86_400


def named(name: str, say: Say) -> list[TaskResult]:
    """A result that says where it was made."""
    say(name)
    threads = ", ".join(str(os.environ.get(each)) for each in THREADS)
    model = ModelResult(({"auroc": 0.5},), "model")
    return [TaskResult(name, threads, "auroc", True, {"one": model})]


def fails(say: Say) -> list[TaskResult]:
    raise EvaluationError("the file is not there")


@pytest.mark.full
def test_results_keep_the_order_of_the_parts_and_each_process_has_one_thread() -> None:
    lines: list[str] = []
    names = ("a", "b", "c")
    parts = [Part(name, partial(named, name), place) for place, name in enumerate(names)]
    found = evaluate_parts(parts, 2, lines.append)
    assert [result.task for result in found] == [*names]
    assert {result.title for result in found} == {"1, 1, 1"}
    assert sorted(line[0] for line in lines) == [*names]
    assert "3 of 3 after" in lines[-1]


@pytest.mark.full
@pytest.mark.parametrize("jobs", [1, 2])
def test_parts_beside_one_that_fails_are_evaluated_all_the_same(jobs: int) -> None:
    parts = [Part("bad", fails), *(Part(name, partial(named, name)) for name in ("a", "b"))]
    told = r"^1 of 3 parts could not be evaluated: bad: the file is not there$"
    with pytest.raises(IncompleteEvaluation, match=told) as caught:
        evaluate_parts(parts, jobs, lambda _: None)
    assert [result.task for result in caught.value.results] == ["a", "b"]


def test_an_error_of_the_only_part_is_told_as_it_is() -> None:
    with pytest.raises(EvaluationError, match=r"^the file is not there$"):
        evaluate_parts([Part("bad", fails)], 2, lambda _: None)


@pytest.mark.full
def test_no_figure_depends_on_the_pool(tmp_path: Path) -> None:
    rng, lines = random.Random(0), []
    for user in range(90):
        for day in range(9):
            moment = TAOBAO_START // 1000 + day * DAY_S + rng.randrange(DAY_S)
            for kind, share in (("pv", 1.0), ("cart", 0.4), ("fav", 0.4), ("buy", 0.3)):
                if rng.random() < share * (1.5 if user % 2 else 0.6):
                    lines.append(f"{user},{rng.randrange(50)},{rng.randrange(5)},{kind},{moment}")
    (tmp_path / TAOBAO).write_text("\n".join(lines))
    config = ContestConfig(seeds=(0, 1), networks=("logistic", "gru"))
    parts = [
        Part(name, partial(ON_FILES[name], (tmp_path,), config))
        for name in ("taobao_purchase_24h", "taobao_interest_24h")
    ]
    found = [to_json(evaluate_parts(parts, jobs, lambda _: None)) for jobs in (1, 2)]
    assert found[0] == found[1]
    assert len(found[0]["tasks"]) == 3
