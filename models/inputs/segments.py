"""Groups of users by what is known of them: where a model is judged apart, and where it abstains.

All of it is read off the profile features, so that serving, training and the gate mean the same.
Shape suffixes: N points, P profile features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.inputs.features import F32, unlogged

if TYPE_CHECKING:
    from models.history import Snapshot

Mask = NDArray[np.bool_]

COLD: Final = "evidence: too little"
_EVENTS: Final = (0, 5, 20, 100)
_ORDERS: Final = (0, 1, 2, 5)
_SILENCE_HOURS: Final = (0, 24, 30 * 24)
_COUNTS: Final = (
    "log_views",
    "log_searches",
    "log_favourites",
    "log_cart_adds",
    "log_cart_removes",
    "log_purchases",
    "log_refunds",
)


@dataclass(frozen=True)
class Evidence:
    """What must be known of a user before a score is more than a guess."""

    min_events: int = 0
    min_orders: int = 0

    def lacking(self, snapshot: Snapshot) -> Mask:
        """Which users, [N], a model should abstain on."""
        lacking: Mask = (snapshot.n < self.min_events) | (snapshot.orders < self.min_orders)
        return lacking

    def lacking_by_profile(self, profile_NP: F32) -> Mask:
        """As `lacking`, from profile features."""
        return (_events(profile_NP) < self.min_events) | (_orders(profile_NP) < self.min_orders)


def segments(profile_NP: F32, evidence: Evidence) -> dict[str, Mask]:
    """Name -> which points belong to it: by history length, orders, value and silence.

    Points below the minimum of `evidence` are a segment too, `COLD`. The high values are those
    above the median spend of the buyers among the points.
    """
    spend = unlogged(profile_NP, "log_spend")
    silence = unlogged(profile_NP, "log_silence_hours")
    buyers = spend > 0
    middle = float(np.median(spend[buyers])) if buyers.any() else 0.0
    found = {COLD: evidence.lacking_by_profile(profile_NP)}
    found |= _bands("events", _events(profile_NP), _EVENTS)
    found |= _bands("orders", _orders(profile_NP), _ORDERS)
    found |= {
        "value: none": ~buyers,
        "value: low": buyers & (spend <= middle),
        "value: high": buyers & (spend > middle),
    }
    return found | _bands("silence hours", silence, _SILENCE_HOURS)


def _bands(name: str, values: NDArray[np.float64], edges: tuple[int, ...]) -> dict[str, Mask]:
    found = {
        f"{name}: {low} to {high - 1}": (values >= low) & (values < high)
        for low, high in pairwise(edges)
    }
    return found | {f"{name}: {edges[-1]} and more": values >= edges[-1]}


def _events(profile_NP: F32) -> NDArray[np.float64]:
    total = np.zeros(len(profile_NP))
    for name in _COUNTS:
        total += np.rint(unlogged(profile_NP, name))
    return total


def _orders(profile_NP: F32) -> NDArray[np.float64]:
    return np.rint(unlogged(profile_NP, "log_orders"))
