"""The three tasks on generated files: figures, notes, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.dataset import DatasetConfig
from models.errors import EvaluationError
from models.evaluation.contest import ContestConfig
from models.evaluation.page import write_report
from models.evaluation.recsys2025 import task as recsys2025
from models.evaluation.recsys2025.files import Folder
from models.evaluation.recsys2025.reading import prepare
from models.evaluation.recsys2025.states import examples_at
from models.evaluation.results import TaskResult, to_json
from models.evaluation.tasks import Sources, _all
from models.fitting.fit import FitConfig
from models.log.spool import Spool
from tests.models.evaluation.recsys2025.small import write_small

pytestmark = pytest.mark.slow

CONFIG = ContestConfig(seeds=(0,), networks=("logistic",), fit=FitConfig(logistic_steps=60))


def run(folder: Path, config: ContestConfig = CONFIG) -> dict[str, TaskResult]:
    return {each.task: each for each in recsys2025.evaluate((folder,), config, lambda _: None)}


@pytest.fixture(scope="module")
def results(generated: Path) -> dict[str, TaskResult]:
    return run(generated)


@pytest.mark.full
def test_churn_is_learnt(results: dict[str, TaskResult]) -> None:
    churn = results["recsys2025_churn"]
    assert churn.models["base_rate"].mean("auroc") == 0.5
    assert churn.models["logistic"].mean("auroc") > 0.7
    assert churn.models["recency"].mean("auroc") > 0.7
    assert churn.models["base_rate"].mean("ece") < 0.1
    assert len(churn.labels) == len(churn.probabilities["boosting"])


@pytest.mark.full
def test_propensities_are_learnt(results: dict[str, TaskResult]) -> None:
    category = results["recsys2025_category"]
    names = category.models["log_linear"].names
    assert names == ("score", "auroc", "diversity", "novelty", "auroc_of_present")
    present = {name: row.mean("auroc_of_present") for name, row in category.models.items()}
    assert present["popularity"] == pytest.approx(0.5)
    assert present["log_linear"] > 0.75
    assert present["log_linear"] > max(present["frequency"], present["recency"]) + 0.1
    assert category.models["log_linear"].mean("auroc") == max(
        row.mean("auroc") for row in category.models.values()
    )
    sku = results["recsys2025_sku"]
    assert "item_to_category" in sku.models
    assert sku.models["log_linear"].mean("auroc") > sku.models["popularity"].mean("auroc")


def test_what_was_found_is_told(results: dict[str, TaskResult]) -> None:
    notes = "\n".join(results["recsys2025_churn"].notes)
    assert "known before 2022-10-14" in notes
    assert "The trainer drew" in notes
    assert "0.7389" in notes
    assert "who first buy in the windows themselves" in notes
    assert "Rows older than the row before them" in notes
    assert "labels have no purchase" in "\n".join(results["recsys2025_sku"].notes)


def test_the_figures_fit_into_the_report(results: dict[str, TaskResult], tmp_path: Path) -> None:
    text = json.dumps(to_json(list(results.values())))
    assert set(json.loads(text)["tasks"]) == set(results)
    page = write_report(list(results.values()), tmp_path / "evaluation", "x").read_text()
    assert "| log_linear (default) | model |" in page


def without_the_future(folder: Path, target: Path, cut: str) -> Path:
    """The same files in which nothing after the split is as it was, but the end of the data."""
    shutil.copytree(folder, target)
    for path in target.glob("*.parquet"):
        table = pq.read_table(path)
        if "timestamp" not in table.schema.names:
            continue
        times = table["timestamp"].to_pylist()
        last = max(times) if path.stem == "product_buy" else None
        kept = [place for place, when in enumerate(times) if when < cut or when == last]
        pq.write_table(table.take(pa.array(kept)), path)
    return target


def test_nothing_of_the_windows_is_known(generated: Path, tmp_path: Path) -> None:
    found = []
    for folder in (generated, without_the_future(generated, tmp_path / "cut", "2022-10-14")):
        with Spool(bits=1) as spool:
            prepared = prepare(Folder.of(folder), spool)
            parts = list(examples_at(spool, prepared.windows.cut, DatasetConfig()))
            users = np.concatenate([part.user for part in parts])
            profile = np.concatenate([part.profile for part in parts])
            latest = max(int(part.time.max()) for part in parts)
        assert latest < prepared.windows.cut
        assert int(prepared.interests.time.max()) < prepared.windows.cut
        order = np.argsort(users)
        found.append((users[order], profile[order], prepared.interests, prepared.active))
    assert (found[0][0] == found[1][0]).all()
    assert (found[0][1] == found[1][1]).all()
    assert (found[0][2].time == found[1][2].time).all()
    assert (found[0][3] == found[1][3]).all()


def test_how_the_log_is_cut_into_parts_changes_nothing(generated: Path) -> None:
    found = []
    for bits in (0, 5):
        with Spool(bits=bits) as spool:
            cut = prepare(Folder.of(generated), spool).windows.cut
            parts = list(examples_at(spool, cut, DatasetConfig(chunk_events=7_000 << bits)))
        users = np.concatenate([part.user for part in parts])
        profile = np.concatenate([part.profile for part in parts])[np.argsort(users)]
        found.append((np.sort(users), profile))
    assert (found[0][0] == found[1][0]).all()
    assert (found[0][1] == found[1][1]).all()


@pytest.mark.full
def test_a_log_too_short_for_the_trainer_is_told_and_the_rest_goes_on(
    generated: Path, tmp_path: Path
) -> None:
    shutil.copytree(generated, tmp_path / "short")
    for path in (tmp_path / "short").glob("*.parquet"):
        table = pq.read_table(path)
        if "timestamp" in table.schema.names:
            times = table["timestamp"].to_pylist()
            kept = [place for place, when in enumerate(times) if when >= "2022-09-10"]
            pq.write_table(table.take(pa.array(kept)), path)
    churn = run(tmp_path / "short")["recsys2025_churn"]
    assert "logistic" not in churn.models
    assert "recency" in churn.models
    assert any("The trainer refused the log" in note for note in churn.notes)


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="one class, nothing to evaluate"):
        run(write_small(tmp_path))


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"product_buy.parquet is in none of .*--data"):
        recsys2025.evaluate((tmp_path,), CONFIG, lambda _: None)


def test_all_runs_the_challenge_only_where_its_files_are(generated: Path, tmp_path: Path) -> None:
    def nothing() -> object:
        raise AssertionError

    for folders, expected in (((tmp_path,), False), ((tmp_path, generated), True)):
        sources = Sources(folders, nothing, nothing)  # type: ignore[arg-type]
        assert (recsys2025.TASK in _all(sources)) is expected
