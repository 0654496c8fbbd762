"""Notices a topic that is deleted and created again while it is being read.

Clients know topics by their names, and go on at the same offset of another log.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiokafka.errors import KafkaError

from stream.errors import TopicReplaced
from stream.kafka.topic_ids import replaced

EVERY_S: Final = 1.0
_ANSWER_S: Final = 2.0


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
        """Look at most once per `EVERY_S`.

        Raises:
            TopicReplaced: a topic has another id than at the first look.
        """
        if time.monotonic() < self._next:
            return
        try:
            async with asyncio.timeout(_ANSWER_S):
                found = await self._ask(self._topics)
        except (KafkaError, TimeoutError, OSError):
            return  # whether the worker can go on without a broker is for its watchdog to judge
        finally:
            self._next = time.monotonic() + EVERY_S
        again = replaced(self._known, found)
        if again:
            raise TopicReplaced(
                f"{', '.join(sorted(again))} was deleted and created again while it was being read:"
                " offsets of the old topic are none of the new one; start again to see what can be"
                " gone on with"
            )
        self._known = found | self._known
