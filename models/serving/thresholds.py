"""The risk at which alerts are raised, as learnt for a precision that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from models.populations import TIMER
from models.targets import CHURN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.steps import F32
    from models.targets import Target


class RaiseAt(msgspec.Struct, frozen=True):
    """A threshold with what it was found by. Part of a manifest or of a recalibration."""

    precision: float
    """Share of the raised alerts that were to be right."""
    risk: float | None = None
    """Alerts are raised from this risk on; None: none was found, `why` says the reason."""
    why: str = ""
    alerts: int = 0
    """That it would have raised on labels that the model did not learn from."""
    users: int = 0
    """Of whom these labels are."""
    right: float = 0.0
    """Share of these alerts that were right."""
    low: float = 0.0
    """Interval of that share, 95 %."""
    high: float = 0.0
    lost: int = 0
    """Orders that none followed in time, among these labels."""
    found: int = 0
    """Of these orders those with an alert."""


class Maps(Protocol):
    """A recalibration that may have a threshold of its own."""

    raise_at: RaiseAt | None

    def apply(self, population: str, probabilities_NK: F32) -> F32:
        """Probabilities [N,K] of a population, mapped."""


class Raising(Protocol):
    """A model that may have a threshold of its own."""

    targets: tuple[Target, ...]
    raise_at: RaiseAt | None

    @property
    def recalibration(self) -> Maps | None:
        """Maps of its probabilities."""


def problems_of(found: RaiseAt | None) -> Iterator[str]:
    """Yield what is wrong in a threshold."""
    if found is None:
        return
    if not 0 < found.precision < 1:
        yield f"raise_at.precision is {found.precision}, not between 0 and 1"
    if found.risk is not None and not 0 < found.risk <= 1:
        yield f"raise_at.risk is {found.risk}, not above 0 and up to 1"


def threshold_of(model: Raising, precision: float | None) -> float | None:
    """From which risk on a model's alerts have this precision; None: that is not known.

    A recalibration that found no threshold of its own maps the model's, as it maps the risks.

    Args:
        model: with or without a recalibration.
        precision: what is asked for; None: nothing.
    """
    known, own = model.recalibration, model.raise_at
    later = None if known is None else known.raise_at
    if later is not None and later.risk is not None and later.precision == precision:
        return later.risk
    if own is None or own.risk is None or own.precision != precision:
        return None
    if known is None:
        return own.risk
    column = [target.name for target in model.targets].index(CHURN)
    row = np.full((1, len(model.targets)), 0.5, np.float32)
    row[0, column] = own.risk
    return float(known.apply(TIMER, row)[0, column])
