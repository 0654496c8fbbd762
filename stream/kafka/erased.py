"""Who has asked to be forgotten, for those who read events again: the trainer, replays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from models.encoding import hash64
from schemas.codec import decode
from schemas.control import EraseUser
from schemas.errors import InvalidMessage
from stream.kafka.tail import open_tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.history import I64
    from stream.config.settings import Settings

READ_TIMEOUT_S: Final = 30.0


class Erased:
    """Users who asked to be forgotten, each with the broker's time of the last request."""

    def __init__(self, since: Mapping[int, int]) -> None:
        """``since``: xxh3-64 of the stored user id -> ms."""
        self._users = np.array(sorted(since), np.uint64)
        self._since = np.array([since[user] for user in sorted(since)], np.int64)

    def __len__(self) -> int:
        return len(self._users)

    def keep(self, users: NDArray[np.uint64], times: I64) -> NDArray[np.bool_]:
        """Which of N events may be used: those of others, and those after the user's request."""
        if not len(self._users):
            return np.ones(len(users), np.bool_)
        at = np.minimum(np.searchsorted(self._users, users), len(self._users) - 1)
        keep: NDArray[np.bool_] = (self._users[at] != users) | (times >= self._since[at])
        return keep

    def requests(self) -> dict[int, int]:
        """Hash of each user who asked -> the broker's time of the last request, ms."""
        return dict(zip(self._users.tolist(), self._since.tolist(), strict=True))

    def covers(self, user_id: str, time: int) -> bool:
        """Whether an event of this (stored) user, taken in at this time, must not be used."""
        user = np.array([hash64(user_id)], np.uint64)
        return not self.keep(user, np.array([time], np.int64))[0]


async def read_erased(settings: Settings) -> Erased:
    """Read all requests there are now.

    Raises:
        BrokerError: no broker answers, or it stops to.
        TopicLayoutError: there is no topic for requests, or none that may be read: then nobody
            knows who has asked.
    """
    since: dict[int, int] = {}
    async with open_tail(settings, [settings.topics.erase], from_beginning=True) as tail:
        async for records in tail.read_to_end(READ_TIMEOUT_S):
            for record in records:
                try:
                    request = decode(EraseUser, record.value)
                except InvalidMessage:
                    continue  # the worker puts it among the dead letters
                user = hash64(settings.privacy.stored_id(request.user_id))
                since[user] = max(since.get(user, 0), record.timestamp)
    return Erased(since)
