"""What a model predicts: the targets, their horizons and how a label is read off the event log."""

from __future__ import annotations

import msgspec

from schemas.events import EventType

PURCHASE = "purchase"
CHURN = "churn"
CART = "cart"
FAVOURITE = "favourite"
NAMES = (PURCHASE, CHURN, CART, FAVOURITE)

OCCURS = "occurs"
ABSENT = "absent"
HAZARD = "hazard"
AMOUNT = "amount"

SPEND = "spend"
"""Name of the target of kind `AMOUNT`."""
WAIT = "wait"
"""Name of the question that the bins of a hazard answer together."""


class Target(msgspec.Struct, frozen=True):
    """One thing to predict about a user at a time t."""

    name: str
    """Key of the target in predictions, one of `NAMES`."""
    kind: str
    """"occurs": an event of `event_type` happens in (t, t + horizon]; "absent": none does;
    "hazard": one does, where none has in (t, t + after], see `models.survival`; "amount": how much
    is spent in them, as a share of `most`, see `models.data.spend`."""
    event_type: int
    """Type code of the event that decides the label (see schemas.events.TYPE_CODES)."""
    horizon_ms: int
    """End of the label window, milliseconds after t."""
    after_ms: int = 0
    """Beginning of the label window, milliseconds after t; 0 but for hazards."""
    most: float = 0.0
    """Of an amount: what the share of 1 stands for, in currency units."""


def shop_targets(
    purchase_code: int,
    purchase_horizon_ms: int,
    churn_horizon_ms: int,
    *,
    cart_horizon_ms: int | None = None,
    favourite_horizon_ms: int | None = None,
) -> tuple[Target, ...]:
    """The targets of a shop: a purchase soon, none for long, and what leads up to one.

    Args:
        purchase_code: type code of a purchase event.
        purchase_horizon_ms: window of the propensity, milliseconds.
        churn_horizon_ms: window without purchase that counts as churn, milliseconds.
        cart_horizon_ms: window of an addition to the cart; None: it is not predicted.
        favourite_horizon_ms: window of a favourite, likewise.
    """
    targets = [
        Target(PURCHASE, OCCURS, purchase_code, purchase_horizon_ms),
        Target(CHURN, ABSENT, purchase_code, churn_horizon_ms),
    ]
    if cart_horizon_ms is not None:
        targets.append(Target(CART, OCCURS, EventType.CART_ADD, cart_horizon_ms))
    if favourite_horizon_ms is not None:
        targets.append(Target(FAVOURITE, OCCURS, EventType.FAVOURITE, favourite_horizon_ms))
    return tuple(targets)


def questions(targets: tuple[Target, ...]) -> tuple[str, ...]:
    """Name of the question that each target answers: its own name, but `WAIT` for all hazards.

    The losses of the bins that are known of a point sum to the loss of its censored wait, so that
    they are weighed and judged as one.
    """
    return tuple(WAIT if target.kind == HAZARD else target.name for target in targets)


def judged(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """The targets whose label is decided from now on, as that of a prediction once it matured."""
    return tuple(target for target in targets if target.kind in (OCCURS, ABSENT))


def of_purchases(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """The targets that a purchase process can speak of: not of carts, favourites and amounts."""
    return tuple(
        target
        for target in targets
        if target.event_type == EventType.PURCHASE and target.kind != AMOUNT
    )
