"""Threads for what must not hold up the event loop: one computes, two wait for the disk."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Engine:
    """Runs pipelines, stores and model swaps, one call at a time, in the order they came."""

    def __init__(self) -> None:
        """Start no thread before the first call."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._aside = ThreadPoolExecutor(2, thread_name_prefix="aside")
        self.calls = 0
        """Calls that have ended: who waits for the engine waits in vain when this stands still."""

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Return the result of `work(*arguments)`, or raise what it raises."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, work, *arguments)
        finally:
            self.calls += 1

    async def run_in_turns(self, work: Iterator[Result | None]) -> Result:
        """Return the first that `work` yields beside None, or raise what it raises.

        At each None, work that others have queued comes first. The thread changes over by itself:
        on a busy machine a way around the event loop takes as long as the work.
        """
        done: Future[Result] = Future()
        self._queue_turn(work, done)
        return await asyncio.wrap_future(done)

    def _queue_turn(self, work: Iterator[Result | None], done: Future[Result]) -> None:
        def turn() -> Result | None:
            # Who waited may be gone, and with them what the work needs.
            return None if done.cancelled() else next(work)

        def turned(ended: Future[Result | None]) -> None:
            self.calls += 1
            with contextlib.suppress(InvalidStateError):  # nobody waits any more
                if ended.cancelled():
                    done.cancel()
                elif (error := ended.exception()) is not None:
                    done.set_exception(error)
                elif (result := ended.result()) is not None:
                    done.set_result(result)
                elif not done.cancelled():
                    self._queue_turn(work, done)

        try:
            self._pool.submit(turn).add_done_callback(turned)
        except RuntimeError:  # the engine was closed between two turns
            done.cancel()

    async def run_aside(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run what only waits for the disk, and must not hold up the computing."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, work, *arguments)

    def close(self) -> None:
        """Wait for the calls that are running and drop those that are queued."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._aside.shutdown(wait=True, cancel_futures=True)
