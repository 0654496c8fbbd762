"""What to simulate."""

import math
from dataclasses import dataclass
from typing import Final

from stream.errors import StreamError

__all__ = ["DAY_MS", "LEAVERS", "Plan", "SimulateError"]

DAY_MS: Final = 86_400_000
_MOST_USERS: Final = 100_000_000
_MOST_PURCHASES: Final = 0.15
"""A purchase comes with 5 events on average: more would leave no room for browsing."""
_WIDEST: Final = 5.0


class SimulateError(StreamError):
    """A plan that cannot be simulated, or a truth file that cannot be read."""


@dataclass(frozen=True)
class Plan:
    """A shop over a period. Equal plans give equal events.

    Attributes:
        users: number of users, bots included.
        events: number of events, exact.
        start: beginning of the period, in milliseconds since the epoch, UTC.
        days: its length.
        seed: of all randomness.
        purchase_share: expected share of purchases in the events.
        rate_shape: shape of the gamma distribution of users' purchase rates; the smaller, the more
            do users differ.
        activity_sigma: sigma of users' log-normal browsing.
        lifetime_days: mean time a user stays; none: as long as the period.
        bot_share: share of users that are bots: they only view, 50 times as much as others.
        items: number of products.
        categories: number of their categories.
    """

    users: int
    events: int
    start: int
    days: float = 30.0
    seed: int = 0
    purchase_share: float = 0.03
    rate_shape: float = 0.8
    activity_sigma: float = 1.5
    lifetime_days: float | None = None
    bot_share: float = 0.0
    items: int = 10_000
    categories: int = 200

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            SimulateError: names the value.
        """
        checks = {
            f"users must be 1 to {_MOST_USERS}": 1 <= self.users <= _MOST_USERS,
            "events must be at least 1": self.events >= 1,
            "start must be after 1970": self.start > 0,
            "days must be positive": 0 < self.days < math.inf,
            "seed must not be negative": self.seed >= 0,
            f"purchase_share must be between 0 and {_MOST_PURCHASES}": 0
            <= self.purchase_share
            <= _MOST_PURCHASES,
            "rate_shape must be positive": 0 < self.rate_shape < math.inf,
            f"activity_sigma must be 0 to {_WIDEST}": 0 <= self.activity_sigma <= _WIDEST,
            "lifetime_days must be positive": 0 < self.mean_lifetime < math.inf,
            "bot_share must be below 1": 0 <= self.bot_share < 1,
            "items must be at least as many as categories": self.items >= self.categories >= 1,
        }
        wrong = [text for text, good in checks.items() if not good]
        if wrong:
            raise SimulateError(f"cannot simulate: {'; '.join(wrong)}")

    @property
    def mean_lifetime(self) -> float:
        """Mean time a user stays, in days."""
        return self.days if self.lifetime_days is None else self.lifetime_days

    @property
    def end(self) -> int:
        """First millisecond after the period."""
        return self.start + round(self.days * DAY_MS)


LEAVERS: Final = Plan(
    users=4_000,
    events=400_000,
    start=1_700_006_400_000,
    days=240,
    seed=7,
    purchase_share=0.08,
    lifetime_days=150,
)
"""A shop that users leave, for what is said of churn alerts."""
