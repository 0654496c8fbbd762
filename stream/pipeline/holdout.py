"""Which users' alerts no action follows, so that what actions bring can be measured.

The arm is a hash of salt, period and user. A new period, or the salt of a new campaign, draws the
holdout arm again: with one salt for ever the same users would never be acted on. The period is that
in which the episode was raised, and the arm is kept in the user's record, so an episode stays in
its arm to its end, whatever the settings say meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import xxhash

if TYPE_CHECKING:
    import numpy as np

    from schemas.outputs import Arm
    from stream.config.settings import ChurnSettings

_PARTS: Final = 10_000
_CODES: Final[dict[Arm, int]] = {"treatment": 1, "holdout": 2}
"""Values of the record's ``arm``; 0: raised by a version that did not note it."""
_ARMS: Final[dict[int, Arm]] = {code: arm for arm, code in _CODES.items()}


@dataclass(frozen=True, slots=True)
class Holdout:
    """How users are assigned to arms."""

    share: float
    salt: str
    period: int
    """ms; 0: one period for ever."""

    @classmethod
    def of(cls, rules: ChurnSettings) -> Holdout:
        """As the settings say."""
        return cls(rules.holdout_share, rules.holdout_salt, rules.holdout_period_ms)

    def epoch(self, raised_at: int) -> str:
        """Name of the assignment that holds at a time (ms): within it a user has one arm."""
        return f"{self.salt}:{raised_at // self.period if self.period else 0}"

    def assign(self, user: str, raised_at: int) -> Arm:
        """The arm of an episode of ``user`` that is raised at a time (ms)."""
        drawn = xxhash.xxh3_64_intdigest(f"holdout:{self.epoch(raised_at)}:{user}".encode())
        return "holdout" if drawn % _PARTS < round(self.share * _PARTS) else "treatment"

    def note(self, record: np.void, user: str, raised_at: int) -> Arm:
        """Assign an episode and note the arm in the user's record."""
        arm = self.assign(user, raised_at)
        record["arm"] = _CODES[arm]
        return arm

    def noted(self, record: np.void, user: str, raised_at: int) -> Arm:
        """The arm in which an episode was raised."""
        return _ARMS.get(int(record["arm"])) or self.assign(user, raised_at)
