"""Whether one model's losses are surely greater than another's, asked again and again.

The two serve different users at the same time, so their samples are independent. Points of one
user hang together: what counts is the user's sum and number (a ratio estimator, linearised as in
Deng et al., "Applying the Delta Method in Metric Analytics", KDD 2018). Whoever looks at every
point finds a difference some time where there is none; so a look is taken only when the smaller
sample has doubled since the last one, and look k spends alpha / (k (k + 1)) of the error allowed,
which sums to alpha.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from statistics import NormalDist

__all__ = ["Comparison", "Look", "Sample"]


@dataclass
class Sample:
    """Losses of one model, by user."""

    max_users: int
    _sums: dict[str, list[float]] = field(default_factory=dict)
    points: int = 0

    @property
    def users(self) -> int:
        """Users seen."""
        return len(self._sums)

    def add(self, user: str, loss: float) -> None:
        """Take in a point; of users beyond the bound nothing is kept."""
        found = self._sums.get(user)
        if found is None:
            if len(self._sums) >= self.max_users:
                return
            found = self._sums[user] = [0.0, 0.0]
        found[0] += loss
        found[1] += 1
        self.points += 1

    def mean(self) -> tuple[float, float]:
        """Mean loss and its standard error."""
        total = sum(found[0] for found in self._sums.values())
        mean = total / self.points
        squares = sum((loss - mean * count) ** 2 for loss, count in self._sums.values())
        return mean, sqrt(squares * self.users / max(self.users - 1, 1)) / self.points


@dataclass(frozen=True)
class Look:
    """What was seen at one look."""

    ours: float
    """Mean loss of the model on trial."""
    theirs: float
    """Of the one that it is compared with."""
    error: float
    """Standard error of the difference."""
    level: float
    """One-sided error allowed at this look."""
    users: tuple[int, int]

    @property
    def worse(self) -> bool:
        """Whether the model on trial is surely worse."""
        reach = NormalDist().inv_cdf(1 - self.level) * self.error
        return self.ours - self.theirs > reach

    def __str__(self) -> str:
        return (
            f"log-loss {self.ours:.4f} against {self.theirs:.4f}, difference"
            f" {self.ours - self.theirs:+.4f} with a standard error of {self.error:.4f},"
            f" {self.users[0]} and {self.users[1]} users"
        )


class Comparison:
    """One model on trial against another, over time."""

    def __init__(self, alpha: float, min_users: int, max_users: int = 100_000) -> None:
        """`alpha`: chance of ever finding an equal model worse; `min_users`: of either model."""
        self._alpha = alpha
        self._min = min_users
        self.ours = Sample(max_users)
        self.theirs = Sample(max_users)
        self._looks = 0
        self._next = float(min_users)

    def look(self) -> Look | None:
        """Compare, if it is time for a look; None if not."""
        size = min(self.ours.users, self.theirs.users)
        if size < self._min or min(self.ours.points, self.theirs.points) < self._next:
            return None
        self._next = 2.0 * min(self.ours.points, self.theirs.points)
        self._looks += 1
        (ours, our_error), (theirs, their_error) = self.ours.mean(), self.theirs.mean()
        return Look(
            ours,
            theirs,
            sqrt(our_error**2 + their_error**2),
            self._alpha / (self._looks * (self._looks + 1)),
            (self.ours.users, self.theirs.users),
        )
