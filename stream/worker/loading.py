"""A model is opened by a thread of its own, in bounded time; a process that dies of it remembers.

A model is code. What it raises is a refusal. One that never ends must not hold up the worker, and
one that takes the process with it (the kernel ends a process that takes all memory) must not do so
again after each restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import threading
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from models.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEATHS: Final = 6
"""After so many processes in a row that ended while they opened a model, it is not opened again.
With 2, workers that were killed at random (fault row 18) refused a sound champion."""

log = structlog.get_logger(__name__)

Found = TypeVar("Found")


async def in_bounded_time(call: Callable[[], Found], limit_s: float) -> Found:
    """Return what `call` returns in a thread of its own, which nothing waits for at the end.

    Raises:
        ArtifactError: it has not returned within `limit_s` seconds; the thread goes on.
        Exception: what `call` raises.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Found] = loop.create_future()

    def settle(error: Exception | None, found: Found | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)  # type: ignore[arg-type]

    def run() -> None:
        error, found = None, None
        try:
            found = call()
        except Exception as raised:  # noqa: BLE001  # handed on to the waiting coroutine
            error = raised
        with contextlib.suppress(RuntimeError):  # The loop is closed: no coroutine waits.
            loop.call_soon_threadsafe(settle, error, found)

    threading.Thread(target=run, name="model loader", daemon=True).start()
    try:
        return await asyncio.wait_for(answer, limit_s)
    except TimeoutError:
        raise ArtifactError(
            f"it was not ready within {limit_s:g} s; publish a model that is faster to open, or"
            " raise models.load_limit_ms"
        ) from None


@contextlib.contextmanager
def deaths_remembered(folder: Path, digest: str) -> Iterator[None]:
    """Keep a file while a model is opened, so that the next process knows if this one dies.

    Args:
        folder: where the files lie; it is created.
        digest: of the model.

    Raises:
        ArtifactError: `DEATHS` processes ended while they opened this model.
    """
    path = folder / digest
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Another process opens it now, or nothing can be written: it is opened all the same.
            log.info("opening of a model is not noted", file=str(path), why=str(error))
            yield
            return
        deaths = file.tell()
        if deaths >= DEATHS:
            raise ArtifactError(
                f"{deaths} worker processes ended while they opened it, which may have been its"
                f" doing: publish another version, or remove {path} to have it tried again"
            )
        file.write(b".")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
