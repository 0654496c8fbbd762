"""How outcomes are judged, as the settings say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.targets import Target
    from schemas.outputs import ChurnAlert

__all__ = ["OutcomeRules", "horizon_of"]


def horizon_of(alert: ChurnAlert, churn_horizon_ms: int) -> int:
    """How long after an alert no purchase must follow, ms: its own, or that of the settings."""
    return alert.horizon_ms or churn_horizon_ms


@dataclass(frozen=True)
class OutcomeRules:
    """How outcomes are judged; times in ms."""

    targets: tuple[Target, ...]
    """What is judged where a prediction has it; its horizon is the prediction's own."""
    churn_horizon_ms: int
    """A raised alert that does not tell its own horizon is right when no purchase follows within
    this time after it."""
    grace_ms: int = 600_000
    """How much longer than its horizon a label waits for events that are under way."""
    order_gap_ms: int = 1_800_000
    """Purchases without an order id that are no further apart belong to one order."""
    cancel_window_ms: int = 0
    """An order that is given back within this time is no return; a label waits this much longer to
    know. 0: each order is one."""
    min_orders: int = 2
    """Churn is judged from this many orders on, as it is learnt: before, nothing can break off."""
    since: int = 0
    """Predictions and alerts of earlier moments are not judged: a model may know their outcome."""
    window: int = 50_000
    max_pending: int = 500_000
    max_users: int = 500_000
    max_models: int = 16
