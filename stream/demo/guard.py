"""Work beside which other things must go on running."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stream.demo.errors import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Guards", "cancel"]

_LOOK_S: Final = 0.2

T = TypeVar("T")


class Guards:
    """Tasks whose error ends whatever is being done."""

    def __init__(self) -> None:
        """Watch nothing."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def add(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it in the background, and watch it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        return task

    def release(self, task: asyncio.Task[Any]) -> None:
        """Watch it no longer, and end it."""
        self._tasks.discard(task)
        task.cancel()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, unless a watched task fails first: then raise its error."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await asyncio.wait({task, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
                for ended in [t for t in self._tasks if t.done()]:
                    self._tasks.discard(ended)
                    ended.result()
            return task.result()
        finally:
            await cancel(task)

    async def until(
        self,
        condition: Callable[[], bool],
        progress: Callable[[], object],
        limit_s: float,
        waiting_for: str,
    ) -> None:
        """Wait for a condition, as long as `progress` changes within `limit_s`.

        Raises:
            DemoError: nothing changed for that long.
        """
        await self.run(_until(condition, progress, limit_s, waiting_for))

    async def close(self) -> None:
        """End all that is watched."""
        for task in self._tasks:
            await cancel(task)


async def cancel(task: asyncio.Task[Any]) -> None:
    """End a task and wait until it has ended."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


async def _until(
    condition: Callable[[], bool],
    progress: Callable[[], object],
    limit_s: float,
    waiting_for: str,
) -> None:
    clock = asyncio.get_running_loop().time
    last, since = progress(), clock()
    while not condition():
        await asyncio.sleep(_LOOK_S)
        now = progress()
        if now != last:
            last, since = now, clock()
        elif clock() - since > limit_s:
            raise DemoError(f"no progress for {limit_s:.0f} s while waiting for {waiting_for}")
