"""What a model predicts: the targets, their horizons and how a label is read off the event log."""

from __future__ import annotations

import msgspec

PURCHASE = "purchase"
CHURN = "churn"

OCCURS = "occurs"
ABSENT = "absent"


class Target(msgspec.Struct, frozen=True):
    """One thing to predict about a user at a time t."""

    name: str
    """Key of the target in predictions, "purchase" or "churn"."""
    kind: str
    """"occurs": an event of `event_type` happens in (t, t + horizon]; "absent": none does."""
    event_type: int
    """Type code of the event that decides the label (see schemas.events.TYPE_CODES)."""
    horizon_ms: int
    """Length of the label window, milliseconds."""


def shop_targets(
    purchase_code: int, purchase_horizon_ms: int, churn_horizon_ms: int
) -> tuple[Target, ...]:
    """The two targets of a shop: a purchase soon, and none for long.

    Args:
        purchase_code: type code of a purchase event.
        purchase_horizon_ms: window of the propensity, milliseconds.
        churn_horizon_ms: window without purchase that counts as churn, milliseconds.
    """
    return (
        Target(PURCHASE, OCCURS, purchase_code, purchase_horizon_ms),
        Target(CHURN, ABSENT, purchase_code, churn_horizon_ms),
    )
