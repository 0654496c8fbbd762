"""Programs under test in forks of a process that has imported all of it.

Most of what a worker's start costs is the import of torch and numba and the reading of compiled
kernels, and the tests start hundreds.
A fork is a process like any other: it can be killed, suspended and waited for. The programs
themselves, from the beginning, are run by `tests/stream/test_demo.py` and
`tests/e2e/test_secured.py`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Protocol

from stream import faults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["stream.worker.service", "stream.cli.worker", "tests.stream.counting", "tests.warmed"]
)


class Process(Protocol):
    """What tests ask of a process: that of `subprocess.Popen`, or of a `Forked`."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class Forked:
    """A function of a module as a program of its own, with a log for all that it says."""

    def __init__(
        self, program: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        """`program`: "module:function", called without arguments, which lie in sys.argv."""
        log.touch()
        self._process = _forks.Process(
            target=_run, args=(program, list(arguments), dict(environment), str(log))
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(program: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(out, sys.stdout.fileno())
    os.dup2(out, sys.stderr.fileno())
    os.close(out)
    os.environ.clear()
    os.environ.update(environment)
    warnings.simplefilter(environment.get("PYTHONWARNINGS", "default"))  # type: ignore[arg-type]
    # Read when the module was imported, which was in another environment.
    faults._passed = faults.stage_hook(environment.get(faults.VARIABLE, ""))
    sys.argv = [program, *arguments]
    module, _, function = program.partition(":")
    getattr(importlib.import_module(module), function)()
