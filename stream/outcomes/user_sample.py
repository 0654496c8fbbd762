"""Which users a joiner follows: all of them, or as many halvings fewer as memory asked for."""

from __future__ import annotations

import xxhash

__all__ = ["UserSample"]


class UserSample:
    """Whole users, chosen by hash: who is left out stays out."""

    def __init__(self) -> None:
        """Begin with everybody."""
        self._halvings = 0

    @property
    def share(self) -> float:
        """Share of users that are followed: 1 until a bound was met."""
        return 0.5**self._halvings

    def keeps(self, user_id: str) -> bool:
        """Whether a user is followed."""
        if self._halvings == 0:
            return True
        return xxhash.xxh3_64_intdigest(user_id.encode()) % (1 << self._halvings) == 0

    def halve(self) -> None:
        """Leave out every second user of those left."""
        self._halvings += 1
