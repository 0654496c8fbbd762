"""One thread for all computing, so that the event loop stays free for the network."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Engine:
    """Runs pipelines, stores and model swaps, one call at a time, in the order they came."""

    def __init__(self) -> None:
        """Start no thread before the first call."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Return the result of `work(*arguments)`, or raise what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def close(self) -> None:
        """Wait for the call that is running and drop those that are queued."""
        self._pool.shutdown(wait=True, cancel_futures=True)
