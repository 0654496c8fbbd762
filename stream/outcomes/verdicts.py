"""What became of a prediction or an alert, and the listener for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from models.populations import EVENT

if TYPE_CHECKING:
    from schemas.outputs import ChurnAlert

__all__ = ["AlertFigures", "Listener", "Matured"]


@dataclass(frozen=True)
class AlertFigures:
    """Raised churn alerts and what became of them."""

    raised: int
    right: int
    """Matured, no purchase within the churn horizon."""
    wrong: int

    @property
    def unknown(self) -> int:
        """Not matured yet."""
        return self.raised - self.right - self.wrong

    @property
    def precision(self) -> float | None:
        """Share of right ones among the matured; None before there is any."""
        matured = self.right + self.wrong
        return self.right / matured if matured else None


@dataclass(frozen=True, slots=True)
class Matured:
    """A prediction that has met its label."""

    user: str
    version: str
    target: str
    time: int
    """Of the prediction, ms."""
    probability: float
    label: bool
    population: str = EVENT
    """Where it was predicted, see `models.populations`."""


class Listener(Protocol):
    """Told of each verdict as it falls."""

    def matured(self, found: Matured) -> None:
        """A prediction has met its label."""

    def alert_settled(self, alert: ChurnAlert, returned_at: int | None, *, retracted: bool) -> None:
        """A raised alert's horizon is over, or it was retracted; when the user bought again."""
