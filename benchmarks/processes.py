"""Processes under measurement: start, watch their CPU time and memory, stop."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_S = 20.0


@dataclass(frozen=True)
class Usage:
    """What a process and its children have used so far."""

    cpu_s: float
    """User and system time, seconds, children that ended included."""
    rss_bytes: int
    """Resident now."""


class Program:
    """A process of ours, its output in a file; stopped at the end of the `with` block."""

    def __init__(
        self, command: list[str], log: Path, environment: dict[str, str] | None = None
    ) -> None:
        """Start it in the repository's folder."""
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
            )

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, gently first."""
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def usage(self) -> Usage:
        """CPU time and memory so far; zeros once it has ended."""
        pids = [self.pid, *_descendants(self.pid)]
        found = [usage for pid in pids if (usage := _usage(pid))]
        return Usage(sum(u.cpu_s for u in found), sum(u.rss_bytes for u in found))

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what does not follow."""
        if self.runs:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def interrupt(self) -> None:
        """Ctrl-C, and wait for the end."""
        if self.runs:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_STOP_S)

    def said(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


def machine_busy(seconds: float = 0.3) -> float:
    """Share of all cores that is in use now, by whomever; waits for `seconds`."""
    before = _machine_ticks()
    time.sleep(seconds)
    busy, idle = (b - a for a, b in zip(before, _machine_ticks(), strict=True))
    return busy / max(busy + idle, 1)


def _machine_ticks() -> tuple[int, int]:
    """Ticks of work (what a hypervisor took included) and of idleness since boot."""
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, idle


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _usage(pid: int) -> Usage | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Usage(sum(map(int, fields[11:15])) / _TICKS, int(fields[21]) * _PAGE)
