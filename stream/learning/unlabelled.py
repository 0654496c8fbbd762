"""What a round publishes while there is nothing to learn a labelled model from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from models.errors import DatasetError, TrainingError
from models.log.eventlog import Until
from models.training.cold_start import fit_cold_start
from stream.config.targets import targets_of

if TYPE_CHECKING:
    from models.serving.scorer import Scorer
    from models.training.train import TrainConfig, Trained
    from stream.config.settings import Settings
    from stream.learning.sources import Source

log = structlog.get_logger(__name__)


def without_labels(
    settings: Settings,
    source: Source,
    config: TrainConfig,
    champion: Scorer | None,
    why: DatasetError | TrainingError,
    *,
    until: int | None,
    now: int,
) -> Trained:
    """Fit the purchase process in place of a labelled model, where no trained model serves yet.

    Args:
        settings: whether this is wanted.
        source: has been read; its events are still there.
        config: of the round.
        champion: what serves now.
        why: no labelled model came of the round.
        until: latest event time to learn from, ms.
        now: time of the run, ms.

    Raises:
        DatasetError: ``why``, because a trained model serves, or because the process cannot be
            fitted or fails its check either.
        TrainingError: likewise.
    """
    if not settings.train.cold_start or (champion is not None and not champion.cold_start):
        raise why
    events = source.read(None)
    try:
        return fit_cold_start(
            events if until is None else Until(events, until),
            targets_of(settings),
            config,
            created_at=now,
            why=str(why),
            invalid=source.refused,
        )
    except (DatasetError, TrainingError) as error:
        log.info("no cold-start model is published either", why=str(error))
        raise why from error
