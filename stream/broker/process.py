"""Broker processes: start detached, recognise, signal, wait. Nothing here knows Kafka."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import SystemRandom

from stream.errors import BrokerError

LOOPBACK = "127.0.0.1"
# Below the range from which systems take ports for outgoing connections, so that a remembered
# port is still free when the broker comes back.
_PORTS = range(20_000, 32_000)
_POLL_S = 0.05
_PROC = Path("/proc")
_FLAGS_FIELD = 6  # of /proc/PID/stat, counted behind the name
_EXITING = 0x4  # PF_EXITING of the kernel's task flags
_EXEC_S = 0.5


def spawn(arguments: Sequence[str], log: Path) -> int:
    """Start a program in its own session, its output going to `log`; return its pid.

    The program outlives this one, and Ctrl-C in this terminal does not reach it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        arguments[0],
        list(arguments),
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    deadline = time.monotonic() + _EXEC_S
    # For a moment a new process has no command line yet, as a dead one has none any more.
    while not _command_line(pid) and time.monotonic() < deadline:
        time.sleep(_EXEC_S / 100)
    return pid


def is_alive(pid: int, mark: str) -> bool:
    """Tell whether `pid` runs and is the program whose command line contains `mark`.

    A pid is reused after a crash or a reboot, so the number alone says nothing. A process that is
    ending counts until it is gone, since it still holds its ports and locks.
    """
    _reap(pid)
    return mark in _command_line(pid) or _is_leaving(pid)


def end(pids: dict[int, str], grace_s: float) -> None:
    """Ask the processes {pid: mark} to end, and kill those that have not after `grace_s`.

    With no grace they are killed at once.

    Raises:
        BrokerError: one is still there after the kill.
    """
    steps = [(signal.SIGTERM, grace_s)] if grace_s else []
    for number, wait_s in [*steps, (signal.SIGKILL, 10.0)]:
        for pid, mark in pids.items():
            if is_alive(pid, mark):
                _signal(pid, number)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if not any(is_alive(pid, mark) for pid, mark in pids.items()):
                return
            time.sleep(_POLL_S)
    left = ", ".join(str(pid) for pid, mark in pids.items() if is_alive(pid, mark))
    raise BrokerError(f"the broker process {left} does not end, not even when killed: end it")


def command_lines() -> Iterator[str]:
    """Yield the command lines of the processes that this user may see."""
    if (_PROC / "self").exists():
        for path in _PROC.iterdir():
            if path.name.isdecimal():
                with contextlib.suppress(OSError):
                    yield _command_line(int(path.name))
        return
    answer = subprocess.run(
        ["/bin/ps", "-ww", "-x", "-o", "command="], capture_output=True, text=True, check=False
    )
    yield from answer.stdout.splitlines()


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Tell whether a server listens on the loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Return `count` different loopback ports that are free now.

    Raises:
        BrokerError: there are not that many.
    """
    candidates = SystemRandom().sample(_PORTS, k=len(_PORTS))
    ports: list[int] = []
    for port in candidates:
        if len(ports) == count:
            return ports
        if is_free(port):
            ports.append(port)
    raise BrokerError(f"no {count} free loopback ports in {_PORTS.start}-{_PORTS.stop - 1}")


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise BrokerError(f"the broker process {pid} belongs to another user: end it") from error


def _command_line(pid: int) -> str:
    if (_PROC / "self").exists():
        try:
            return (_PROC / str(pid) / "cmdline").read_text(
                encoding="utf-8", errors="surrogateescape"
            )
        except (FileNotFoundError, ProcessLookupError):
            return ""
    answer = subprocess.run(  # noqa: S603 - a fixed program and a number
        ["/bin/ps", "-ww", "-p", str(pid), "-o", "command="],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout


def _is_leaving(pid: int) -> bool:
    """Tell whether a process has lost its command line already, but not yet its open files."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        threads = len(list((_PROC / str(pid) / "task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return False
    # A leading thread that is done waits as a zombie for the others, which share its files.
    return bool(int(fields[_FLAGS_FIELD]) & _EXITING) and (fields[0] not in "ZX" or threads > 1)
