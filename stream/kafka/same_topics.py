"""Notices a topic that is deleted and created again while it is being read.

Clients know topics by their names, and go on at the same offset of another log.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from stream.errors import TopicReplaced
from stream.kafka.topic_ids import replaced

EVERY_S: Final = 1.0
_ANSWER_S: Final = 2.0

log = structlog.get_logger(__name__)


class SameTopics:
    """The ids under which topics were found at the first look."""

    def __init__(
        self, topics: Sequence[str], ask: Callable[[Sequence[str]], Awaitable[dict[str, str]]]
    ) -> None:
        """Ask nothing yet.

        Args:
            topics: that are read on at an offset.
            ask: returns the present id of each topic that exists.
        """
        self._topics = topics
        self._ask = ask
        self._known: dict[str, str] = {}
        self._next = 0.0

    async def check(self) -> None:
        """Do `replaced`, where a new topic cannot be gone on with.

        Raises:
            TopicReplaced: a topic has another id than before.
        """
        refuse(await self.replaced())

    async def replaced(self) -> list[str]:
        """Ask at most once per `EVERY_S`; return the topics with another id than before, once."""
        if time.monotonic() < self._next:
            return []
        try:
            async with asyncio.timeout(_ANSWER_S):
                found = await self._ask(self._topics)
        except (KafkaError, TimeoutError, OSError):
            return []  # the watchdog decides whether the worker can go on without a broker
        finally:
            self._next = time.monotonic() + EVERY_S
        again = replaced(self._known, found)
        self._known |= found
        return again


def refuse(again: Iterable[str]) -> None:
    """Refuse to go on with topics that were deleted and created again.

    Raises:
        TopicReplaced: there is one.
    """
    if names := ", ".join(sorted(again)):
        raise TopicReplaced(
            f"{names} was deleted and created again while it was being read: offsets of the old"
            " topic are none of the new one; start again to see what can be gone on with"
        )


def log_new_outputs(topics: Iterable[str], where: str) -> None:
    """Log output topics that were deleted and created again: what they held is gone."""
    for topic in sorted(topics):
        log.warning(
            "an output topic was deleted and created again: what it held is gone and is not written"
            " again, and its subscribers have to begin at its first offset",
            topic=topic,
            noticed_by=where,
        )
