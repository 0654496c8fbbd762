"""Tasks by name; the protocols are those of the data page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.data.split import VALIDATION
from models.errors import EvaluationError
from models.evaluation import (
    cdnow_return,
    online_retail_return,
    published,
    taobao_purchase_24h,
)
from models.evaluation.contest import ContestConfig
from models.evaluation.cuts import Protocol, cut_points
from models.evaluation.sources import CDNOW, DAY, TAOBAO, read_cdnow, read_taobao
from models.evaluation.tasks import COSTS, TASKS, Sources, run

DATA = Path(__file__).parents[4] / "shared" / "data"


def nothing() -> object:
    raise AssertionError


@pytest.mark.parametrize("wanted", ["cdnow", "", "ALL"])
def test_an_unknown_task_is_refused(wanted: str) -> None:
    sources = Sources((), nothing, nothing)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match=r"no task .*all, cdnow_return, online_retail"):
        run(wanted, sources, ContestConfig(), lambda _: None)


def test_all_has_each_task_once_and_what_takes_long_is_known_by_its_name() -> None:
    parts = {*TASKS, *published.PARTS} - {published.GROUP}
    assert len(TASKS) == len(set(TASKS))
    assert set(COSTS) <= parts
    assert {task.part for task in published.TASKS} == set(published.PARTS)


def test_missing_data_is_named(tmp_path: Path) -> None:
    sources = Sources((tmp_path,), nothing, nothing)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match=r"CDNOW_master\.txt is in none of"):
        run("cdnow_return", sources, ContestConfig(), lambda _: None)


@pytest.mark.parametrize("task", [cdnow_return, online_retail_return, taobao_purchase_24h])
def test_no_training_label_reaches_into_the_test(task: object) -> None:
    at: Protocol = task.protocol()  # type: ignore[attr-defined]
    assert max(at.train) + at.target.horizon_ms <= min(at.test)


def day(time: int) -> str:
    return str(np.datetime64(time, "ms").astype("datetime64[D]"))


def test_the_cuts_are_those_of_the_data_page() -> None:
    cdnow = cdnow_return.protocol()
    assert [day(cut) for cut in cdnow.test] == ["1998-01-01"]
    assert day(cdnow.test[0] + cdnow.target.horizon_ms) == "1998-07-01"
    retail = online_retail_return.protocol()
    assert [day(cut) for cut in retail.test] == ["2011-09-01"]
    assert [day(cut) for cut in retail.train] == [f"2011-0{month}-01" for month in (3, 4, 5, 6)]
    taobao = taobao_purchase_24h.protocol()
    start = 1_511_539_200_000
    assert [(cut - start) / DAY for cut in (*taobao.train, *taobao.test)] == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
def test_the_populations_are_those_of_the_data_page() -> None:
    found = cut_points(read_cdnow(DATA / CDNOW), cdnow_return.protocol(), 0)
    labels = found.examples.labels[found.of_slice(VALIDATION), 0]
    assert (len(labels), int(labels.sum())) == (23_570, 5_374)
    found = cut_points(read_taobao(DATA / TAOBAO), taobao_purchase_24h.protocol(), 0)
    labels = found.examples.labels[found.of_slice(VALIDATION), 0]
    assert len(labels) == 1630
    assert round(float(labels.mean()), 3) == 0.177
