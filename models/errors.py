"""Errors of the learning side; each message names the place and the remedy."""

from __future__ import annotations

from schemas.errors import IntentStreamError


class ModelError(IntentStreamError):
    """Anything that goes wrong in `models`."""


class ArtifactError(ModelError):
    """A published model that must not be used: missing, damaged, altered or incompatible."""


class RegistryError(ModelError):
    """A model folder in which a version cannot be found or written."""


class DatasetError(ModelError):
    """An event log from which no labelled examples can be made."""


class TrainingError(ModelError):
    """A fit that failed or a model that is not fit to be published."""


class CheckpointError(TrainingError):
    """A fit that cannot be kept on disk, or not go on from there."""


class SigningError(ModelError):
    """A key that cannot be read, used or written."""


class EvaluationError(ModelError):
    """Data that an evaluation cannot use, or a task that there is not."""
