"""The trackers that the settings ask for, as one listener of a fit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from models.fitting.fit import Progress, Report
from models.training.tracking import Mlflow, TensorBoard, Tracker
from stream.config.settings import Settings


@dataclass(frozen=True)
class Tracks:
    """All trackers of a run, and who watches it."""

    trackers: tuple[Tracker, ...]
    report: Report | None

    def epoch(self, news: Progress) -> None:
        """Pass an epoch on."""
        for tracker in self.trackers:
            tracker.epoch(news)
        if self.report is not None:
            self.report(news)

    def figures(self, values: Mapping[str, float]) -> None:
        """Pass on what came out."""
        for tracker in self.trackers:
            tracker.figures(values)


@contextmanager
def tracked(
    settings: Settings, created_at: int, report: Report | None, *, leads: bool = True
) -> Iterator[Tracks]:
    """Trackers of the run that began at `created_at`, ms; closed however it ends.

    Of several processes only the one that leads tracks anything.

    Raises:
        TrainingError: one cannot be opened.
    """
    chosen = settings.train
    run = f"{datetime.fromtimestamp(created_at / 1000, UTC):%Y%m%dT%H%M%S}-{created_at % 1000:03d}"
    trackers: list[Tracker] = []
    if not leads:
        yield Tracks((), None)
        return
    try:
        if chosen.tensorboard:
            trackers.append(TensorBoard(settings.data_dir / "runs" / run))
        if chosen.mlflow_uri is not None:
            trackers.append(Mlflow(chosen.mlflow_uri, settings.app_id, run))
        yield Tracks(tuple(trackers), report)
    finally:
        for tracker in trackers:
            tracker.close()
