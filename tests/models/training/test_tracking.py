"""Curves can be read back by the tools that show them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from models.errors import TrainingError
from models.fitting.fit import Progress
from models.training.tracking import Mlflow, TensorBoard
from schemas.extras import MissingExtra

NEWS = [Progress("gru", k, 3, 1.0 / k, 2.0 / k, 0.1, 0.5) for k in (1, 2, 3)]


def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    tracker = TensorBoard(tmp_path / "run")
    for news in NEWS:
        tracker.epoch(news)
    tracker.figures({"purchase.roc_auc": 0.75})
    tracker.close()
    found = EventAccumulator(str(tmp_path / "run")).Reload()
    losses = [(e.step, e.value) for e in found.Scalars("gru/stopping_loss")]
    assert losses == [(k, pytest.approx(2.0 / k)) for k in (1, 2, 3)]
    assert found.Scalars("validation/purchase.roc_auc")[0].value == pytest.approx(0.75)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write the run's curves.*tensorboard = false"):
        TensorBoard(tmp_path / "file" / "run")


HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None


@pytest.mark.skipif(HAS_MLFLOW, reason="mlflow is installed")
def test_without_mlflow_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        MissingExtra, match=r"train.mlflow_uri needs: pip install 'intentstream\[mlflow\]'"
    ):
        Mlflow(tmp_path.as_uri(), "shop", "run")


@pytest.mark.skipif(not HAS_MLFLOW, reason="the extra mlflow is not installed")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_the_figures(tmp_path: Path) -> None:
    import mlflow  # noqa: PLC0415

    tracker = Mlflow(tmp_path.as_uri(), "shop", "run")
    for news in NEWS:
        tracker.epoch(news)
    tracker.figures({"purchase.roc_auc": 0.75})
    tracker.close()
    (run,) = mlflow.search_runs(experiment_names=["shop"], output_format="list")
    assert run.data.metrics["validation/purchase.roc_auc"] == pytest.approx(0.75)
