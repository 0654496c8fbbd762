"""The demo's own processes: started with a log, watched, and ended by their pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from stream.demo.errors import DemoError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

__all__ = ["Child", "run_child", "running_child"]

_PROGRAM: Final = "stream.cli.main"
_GRACE_S: Final = 20.0
_SHORT_GRACE_S: Final = 2.0
_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16_384


@dataclass(frozen=True)
class Child:
    """One running `intentstream` command."""

    name: str
    log: Path
    process: asyncio.subprocess.Process

    @classmethod
    async def start(
        cls, name: str, arguments: list[str], log: Path, environment: Mapping[str, str]
    ) -> Self:
        """Start `intentstream ARGUMENTS`; what it says goes to `log`.

        It gets a session of its own: Ctrl-C reaches the demo alone, which then ends it in order.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _PROGRAM,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                start_new_session=True,
            )
        return cls(name, log, process)

    async def end(self, grace_s: float = _GRACE_S) -> int:
        """Ask it to end, kill it if it does not within `grace_s`, and return its exit status."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                return await asyncio.wait_for(self.process.wait(), grace_s)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
        return await self.process.wait()

    async def succeed(self) -> None:
        """Wait until it ends by itself.

        Raises:
            DemoError: its exit status is not 0.
        """
        status = await self.process.wait()
        if status != 0:
            raise self.failed(status)

    async def stays(self) -> None:
        """Wait for ever.

        Raises:
            DemoError: it ended.
        """
        raise self.failed(await self.process.wait())

    def failed(self, status: int) -> DemoError:
        """The error with the end of its log."""
        *tail, said = self.tail() or ["it said nothing"]
        said = said.removeprefix("intentstream: ")
        message = f"{self.name} ended with status {status}: {said} (log: {self.log})"
        return DemoError(message, said, tail)

    def tail(self) -> list[str]:
        """The last lines of the log."""
        with self.log.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()][-_TAIL_LINES:]


@contextlib.asynccontextmanager
async def running_child(
    name: str,
    arguments: list[str],
    log: Path,
    environment: Mapping[str, str],
    grace_s: float = _GRACE_S,
) -> AsyncIterator[Child]:
    """A process that is ended on leaving, whatever the reason."""
    child = await Child.start(name, arguments, log, environment)
    try:
        yield child
    finally:
        await child.end(grace_s)


async def run_child(
    name: str, arguments: list[str], log: Path, environment: Mapping[str, str]
) -> None:
    """Run a command that leaves nothing behind when it is killed, to its end.

    Raises:
        DemoError: its exit status is not 0; shows the end of its log.
    """
    async with running_child(name, arguments, log, environment, _SHORT_GRACE_S) as child:
        await child.succeed()
