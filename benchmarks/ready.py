"""When workers are ready: their own /health says so."""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

from benchmarks.processes import Program
from benchmarks.race import RaceFailed

_READY_S = 120.0
_STEADY_S = 2.0
_OK = 200


async def all_ready(workers: Sequence[Program], ports: Sequence[int]) -> None:
    """Wait until all have been ready for a while, so that partitions move no more.

    Raises:
        RaceFailed: one ended, or it takes too long.
    """
    deadline, since = time.monotonic() + _READY_S, None
    while since is None or time.monotonic() - since < _STEADY_S:
        check(workers)
        if time.monotonic() > deadline:
            raise RaceFailed(f"workers are not ready: {workers[-1].said()}")
        ready = [await asyncio.to_thread(_healthy, port) for port in ports]
        if not all(ready):
            since = None
        elif since is None:
            since = time.monotonic()
        await asyncio.sleep(0.2)


def check(workers: Sequence[Program]) -> None:
    """Demand that all of them run.

    Raises:
        RaceFailed: one does not.
    """
    for worker in workers:
        if not worker.runs:
            raise RaceFailed(f"a worker ended: {worker.said()}")


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == _OK)
    except (urllib.error.URLError, OSError):
        return False
