"""Users who asked to be erased, and where in the log what counts of them begins again."""

from __future__ import annotations

__all__ = ["ErasedUsers"]


class ErasedUsers:
    """The last request of each user in each source partition."""

    def __init__(self) -> None:
        """Begin without users."""
        self._before: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        return len(self._before)

    def note(self, user_id: str, partition: int, before: int) -> None:
        """Take in a request: records of the partition before offset `before` count no more."""
        place = user_id, partition
        self._before[place] = max(before, self._before.get(place, 0))

    def covers(self, user_id: str, partition: int, offset: int) -> bool:
        """Whether a source record of a user, or what was made of it, must not be used."""
        return offset < self._before.get((user_id, partition), 0)
