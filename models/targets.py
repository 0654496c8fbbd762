"""What a model predicts: the targets, their horizons and how a label is read off the event log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.events import EventType

PURCHASE = "purchase"
CHURN = "churn"
CART = "cart"
FAVOURITE = "favourite"
NAMES = (PURCHASE, CHURN, CART, FAVOURITE)

LEAVE = "leave"
"""Name of the target that no event follows within the session gap."""
INTENTS = (PURCHASE, CART, LEAVE)
"""What may be predicted at each event of a session."""
SESSION = "session"
"""Stands for the rest of the session where a length of time may be given."""
ANY: Final = 0
"""Event type of a target that events of all types decide."""

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
    """Type code of the event that decides the label (see schemas.events.TYPE_CODES), or `ANY`."""
    horizon_ms: int
    """End of the label window, milliseconds after t."""
    after_ms: int = 0
    """Beginning of the label window, milliseconds after t; 0 but for hazards."""
    most: float = 0.0
    """Of an amount: what the share of 1 stands for, in currency units."""
    at_events: bool = False
    """The target applies at the user's events only, not while the user is inactive."""
    in_session: bool = False
    """The label window ends with the session of t, where that ends before the horizon."""
    gaps: float = 0.0
    """Above 0: the label window is the user's own, so many of the user's expected gaps between
    orders at t (`models.inputs.features.expected_gap`), from `floor_ms` to `horizon_ms`."""
    floor_ms: int = 0
    """Shortest label window of a user's own, milliseconds."""
    prior_gap_ms: int = 0
    """The gap that is expected of a user of whom nothing is known, where `gaps` is set."""

    def own_horizons(self, gaps_N: NDArray[Any]) -> NDArray[np.int64]:
        """Lengths [N] of label windows, ms, at expected gaps [N] between orders, ms."""
        if not self.gaps:
            return np.full(len(gaps_N), self.horizon_ms, np.int64)
        wanted = np.minimum(self.gaps * np.asarray(gaps_N, np.float64), float(self.horizon_ms))
        return np.maximum(wanted.astype(np.int64), self.floor_ms)

    @property
    def needs_orders(self) -> bool:
        """Whether the target means something only once a user has had some orders."""
        return self.kind == ABSENT and self.event_type == EventType.PURCHASE


def shop_targets(
    purchase_code: int,
    purchase_horizon_ms: int | None,
    churn_horizon_ms: int | None,
    *,
    cart_horizon_ms: int | None = None,
    favourite_horizon_ms: int | None = None,
) -> tuple[Target, ...]:
    """The targets of a shop: a purchase soon, none for long, and what leads up to one.

    Args:
        purchase_code: type code of a purchase event.
        purchase_horizon_ms: window of the propensity, milliseconds; None: it is not predicted.
        churn_horizon_ms: window without purchase that counts as churn, likewise.
        cart_horizon_ms: window of an addition to the cart; None: it is not predicted.
        favourite_horizon_ms: window of a favourite, likewise.
    """
    targets = []
    if purchase_horizon_ms is not None:
        targets.append(Target(PURCHASE, OCCURS, purchase_code, purchase_horizon_ms))
    if churn_horizon_ms is not None:
        targets.append(Target(CHURN, ABSENT, purchase_code, churn_horizon_ms))
    if cart_horizon_ms is not None:
        targets.append(Target(CART, OCCURS, EventType.CART_ADD, cart_horizon_ms))
    if favourite_horizon_ms is not None:
        targets.append(Target(FAVOURITE, OCCURS, EventType.FAVOURITE, favourite_horizon_ms))
    return tuple(targets)


def within_own_gaps(
    targets: tuple[Target, ...], gaps: float, floor_ms: int, prior_gap_ms: int
) -> tuple[Target, ...]:
    """The targets with churn within the user's own expected gaps; see `Target.gaps`."""
    return tuple(
        msgspec.structs.replace(target, gaps=gaps, floor_ms=floor_ms, prior_gap_ms=prior_gap_ms)
        if target.name == CHURN
        else target
        for target in targets
    )


def column_of(targets: tuple[Target, ...], name: str) -> int | None:
    """Place of a target among those of a model; None if it has none of that name."""
    return next((column for column, one in enumerate(targets) if one.name == name), None)


_UNITS: Final = ((3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms"))
"""Units in which a horizon is named, the longest first."""


def intent_targets(
    intents: Sequence[str],
    within: Sequence[str | int],
    session_gap_ms: int,
    longest_ms: int,
) -> tuple[Target, ...]:
    """Targets that are predicted at each event of a session.

    A session ends with an event that no other follows within the gap. A label of the rest of the
    session looks ahead `longest_ms` at most, so that it is known after a fixed time: labels of
    short sessions would otherwise be known earlier than those of long ones, and the newest data
    would hold short sessions only. A session that is split because of its length
    (`SessionRules.longest`) goes on here.

    Args:
        intents: of `INTENTS`; `LEAVE` is the same for each `within` and made once.
        within: label windows: `SESSION`, or milliseconds.
        session_gap_ms: inactivity that ends a session.
        longest_ms: see above.
    """
    found: list[Target] = []
    types = {PURCHASE: EventType.PURCHASE, CART: EventType.CART_ADD}
    for intent in dict.fromkeys(intents):
        if intent == LEAVE:
            found.append(Target(LEAVE, ABSENT, ANY, session_gap_ms, at_events=True))
            continue
        for horizon in dict.fromkeys(within):
            in_session = isinstance(horizon, str)
            end = longest_ms if isinstance(horizon, str) else horizon
            name = f"{intent}_in_session" if in_session else f"{intent}_{_length(end)}"
            kind = int(types[intent])
            target = Target(name, OCCURS, kind, end, at_events=True, in_session=in_session)
            found.append(target)
    return tuple(found)


def _length(milliseconds: int) -> str:
    """A length of time as in names of targets: 900,000 is "15m"."""
    unit, mark = next(pair for pair in _UNITS if milliseconds % pair[0] == 0)
    return f"{milliseconds // unit}{mark}"


def session_end(times: Sequence[int], moment: int, gap_ms: int) -> int:
    """When the session that goes on at a moment ends: time of its last event, ms.

    Args:
        times: of the user's events, ms, ascending.
        moment: ms.
        gap_ms: a longer inactivity ends a session.
    """
    end = moment
    for place in range(bisect_right(times, moment), len(times)):
        if times[place] - end > gap_ms:
            break
        end = times[place]
    return end


def questions(targets: tuple[Target, ...]) -> tuple[str, ...]:
    """Name of the question that each target answers: its own name, but `WAIT` for all hazards.

    The losses of the bins that are known of a point sum to the loss of its censored wait, so that
    they are weighed and judged as one.
    """
    return tuple(WAIT if target.kind == HAZARD else target.name for target in targets)


def setting_of(target: Target) -> str:
    """The setting that says whether a target is predicted, and how far ahead."""
    if target.kind == HAZARD:
        return "train.wait_edges_ms"
    if target.at_events:
        return "train.intent_within"
    return f"train.{PURCHASE if target.kind == AMOUNT else target.name}_horizon_ms"


def judged(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """The targets whose label is decided from now on, as that of a prediction once it matured."""
    return tuple(target for target in targets if target.kind in (OCCURS, ABSENT))


def of_purchases(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """The targets that a purchase process predicts: purchases, but no amount and no intent."""
    return tuple(
        target
        for target in targets
        if target.event_type == EventType.PURCHASE
        and target.kind != AMOUNT
        and not target.at_events
    )
