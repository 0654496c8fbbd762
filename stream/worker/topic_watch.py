"""Looks at the topics while a worker runs: one that is deleted or changed must stop it.

Clients take a topic that is gone for one that is not there yet, and wait for it in silence.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from stream.config.settings import Settings
from stream.errors import BrokerError, TopicLayoutError
from stream.kafka.topics import check_topics
from stream.worker.worker import Worker

EVERY_S: Final = 10.0
CONFIRM_S: Final = 2.0
"""A problem counts when it is still there after this: a broker may learn of topics late."""

log = structlog.get_logger(__name__)


class TopicWatch:
    """A companion of the worker that ends it once a topic is not as it must be."""

    def __init__(
        self,
        settings: Settings,
        check: Callable[[Settings], Awaitable[object]] = check_topics,
        every_s: float = EVERY_S,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        """Start nothing; `run` looks every `every_s` seconds."""
        self._settings = settings
        self._check = check
        self._every_s = every_s
        self._confirm_s = confirm_s

    async def run(self, worker: Worker) -> None:
        """Look until cancelled.

        Raises:
            TopicLayoutError: a topic is gone or was changed; says which.
        """
        del worker
        while True:
            await asyncio.sleep(self._every_s)
            if await self._problem() is None:
                continue
            await asyncio.sleep(self._confirm_s)
            problem = await self._problem()
            if problem is not None:
                raise TopicLayoutError(
                    [f"{each} (it changed while the worker ran)" for each in problem.problems]
                )

    async def finish(self, worker: Worker) -> None:
        """Nothing is open."""

    async def _problem(self) -> TopicLayoutError | None:
        try:
            await self._check(self._settings)
        except TopicLayoutError as error:
            return error
        except BrokerError as error:
            # Whether the worker can go on without a broker is for its watchdog to judge.
            log.warning("the topics cannot be checked", error=str(error))
        return None
