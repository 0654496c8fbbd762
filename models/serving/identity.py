"""What the engine needs to know about a model besides its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.monitoring.drift import Reference
    from models.serving.manifest import Manifest
    from models.serving.thresholds import RaiseAt
    from models.targets import Target

    F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Identity:
    """What the engine needs to know about the model besides its numbers."""

    version: str
    architecture: str
    targets: tuple[Target, ...]
    hidden_size: int
    history_length: int
    feature_version: str
    cold_start: bool
    reference_profile: F32
    recurrent: bool = True
    reference: Reference | None = None
    raises: bool = True
    raise_at: RaiseAt | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Of a published model."""
        return cls(
            manifest.version,
            manifest.architecture,
            manifest.targets,
            manifest.hidden_size,
            manifest.history_length,
            manifest.feature_version,
            manifest.cold_start,
            np.array(manifest.reference_profile, np.float32),
            manifest.recurrent,
            manifest.reference,
            manifest.raises,
            manifest.raise_at,
        )
