"""Where the course of a fit can be looked at: TensorBoard, and MLflow where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from models.errors import TrainingError
from models.fitting.fit import Progress
from schemas.extras import need


class Tracker(Protocol):
    """Takes the figures of a run."""

    def epoch(self, news: Progress) -> None:
        """Note an epoch."""
        ...

    def figures(self, values: Mapping[str, float]) -> None:
        """Note what came out."""
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


def curves(news: Progress) -> dict[str, float]:
    """The figures of an epoch by name."""
    return {
        f"{news.architecture}/train_loss": news.train_loss,
        f"{news.architecture}/stopping_loss": news.stopping_loss,
        f"{news.architecture}/learning_rate": news.learning_rate,
        f"{news.architecture}/gradient_norm": news.gradient_norm,
    }


class TensorBoard:
    """Event files for `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        """Write into a folder of this run.

        Raises:
            TrainingError: it cannot be written.
        """
        # Imported late: it takes a second, which a command that does not train need not wait.
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        try:
            self._writer = SummaryWriter(str(folder))
        except OSError as error:
            raise TrainingError(
                f"cannot write the run's curves to {folder}: {error}; check space and permissions, "
                "or set train.tensorboard = false"
            ) from error

    def epoch(self, news: Progress) -> None:
        """Add a point to each curve."""
        for name, value in curves(news).items():
            self._writer.add_scalar(name, value, news.epoch)

    def figures(self, values: Mapping[str, float]) -> None:
        """Add the figures of the validation slice."""
        for name, value in values.items():
            self._writer.add_scalar(f"validation/{name}", value, 0)

    def close(self) -> None:
        """Write the rest."""
        self._writer.close()


class Mlflow:
    """A run on an MLflow tracking server (the project's extra `mlflow`)."""

    def __init__(self, uri: str, experiment: str, run: str) -> None:
        """Begin a run.

        Raises:
            MissingExtra: mlflow is not installed.
        """
        need("mlflow", "train.mlflow_uri")
        self._mlflow: Any = importlib.import_module("mlflow")
        self._mlflow.set_tracking_uri(uri)
        self._mlflow.set_experiment(experiment)
        self._mlflow.start_run(run_name=run)

    def epoch(self, news: Progress) -> None:
        """Log the epoch's figures."""
        self._mlflow.log_metrics(curves(news), step=news.epoch)

    def figures(self, values: Mapping[str, float]) -> None:
        """Log the figures of the validation slice."""
        self._mlflow.log_metrics({f"validation/{name}": value for name, value in values.items()})

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()
