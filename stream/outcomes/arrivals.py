"""When an event counts for what became of a prediction: as it does for the worker's own histories.

Late events are left out, late purchases and refunds count as of when they came, and history that
was loaded as of when it happened, by the rules of `models/kernels/history.py`; only a history's
length is not known here, so what the worker sends to the late topic because its user has done much
since still counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from models.history import PURCHASE, REFUND

if TYPE_CHECKING:
    from stream.config.settings import Settings


class Arrivals:
    """Each user's newest event time so far; of the users of the last events."""

    def __init__(self, grace_ms: int, correction_ms: int, max_users: int) -> None:
        """Begin with no user known: a user's first event is never late."""
        self._grace = grace_ms
        self._correction = correction_ms
        self._most = max_users
        self._newest: dict[str, int] = {}
        self._loaded: dict[str, int] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """By the rules of the workers."""
        state = settings.state
        return cls(state.grace_ms, state.correction_ms, settings.outcomes.max_users)

    def taken(self, user: str, time: int, kind: int, *, loaded: bool = False) -> int | None:
        """The time at which a user's event counts, ms; None for a late one, which does not.

        ``loaded``: it is history, which live events do not make late.
        """
        newest = _noted(self._newest, user, time, self._most)
        in_time = newest - time <= self._grace
        if not in_time and kind in (PURCHASE, REFUND) and newest - time <= self._correction:
            return newest
        if loaded:
            in_time = _noted(self._loaded, user, time, self._most) - time <= self._grace
        return time if in_time else None


def _noted(newest: dict[str, int], user: str, time: int, most: int) -> int:
    """Note a time of a user; the newest so far."""
    found = newest[user] = max(newest.pop(user, time), time)
    if len(newest) > most:
        del newest[next(iter(newest))]
    return found
