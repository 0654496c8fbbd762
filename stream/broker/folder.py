"""The data folder of an embedded cluster: what it holds, who may touch it, what is remembered."""

import base64
import fcntl
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from stream.broker.config import Ports
from stream.broker.process import free_ports
from stream.errors import BrokerError

_STATE = "broker.json"
_LOCK = "broker.lock"
_PORTS_PER_NODE = 3
_LOCK_WAIT_S = 90.0
_STARTED = "Kafka Server started"
_POLL_S = 0.1


class Node(msgspec.Struct):
    """What is remembered of one broker; `pid` is None once it was stopped properly."""

    ports: Ports
    pid: int | None = None


class Remembered(msgspec.Struct):
    """What the state file holds."""

    cluster_id: str
    nodes: dict[int, Node]


class Folder:
    """A data folder; paths of a node are derived from its number (1, 2, ...)."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is read or made yet.

        Raises:
            BrokerError: Kafka cannot use a folder of this name.
        """
        self.path = path.absolute()
        if "," in str(self.path):
            raise BrokerError(
                f"Kafka cannot use the data folder {self.path}: there is a comma in it; choose"
                " another one with --data-dir"
            )

    def properties(self, node: int) -> Path:
        """Return the path of a node's configuration, which also marks its command line."""
        return self.path / f"node-{node}" / "server.properties"

    def log(self, node: int) -> Path:
        """Return the path of what a node prints."""
        return self.path / f"node-{node}" / "server.log"

    def data(self, node: int) -> Path:
        """Return the folder of a node's topics."""
        return self.path / f"node-{node}" / "data"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other `broker` commands off the folder; a dead process leaves no lock behind.

        Raises:
            BrokerError: another command does not let go of it, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / _LOCK).open("ab")
        except OSError as error:
            raise BrokerError(
                f"cannot write the broker's data folder {self.path}: {error}; choose another one"
                " with --data-dir"
            ) from error
        with lock:
            deadline = time.monotonic() + _LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise BrokerError(
                            f"another command has been working on {self.path} for more than"
                            f" {_LOCK_WAIT_S:.0f} s: end it and try again"
                        ) from None
                    time.sleep(_POLL_S)
            yield

    def read(self) -> Remembered | None:
        """Return what is remembered, or None for a folder that holds no cluster.

        Raises:
            BrokerError: the state file is damaged.
        """
        path = self.path / _STATE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Remembered)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise BrokerError(
                f"cannot read {path}: {error}; end any broker that runs on the folder and delete"
                f" {self.path} (its topics are lost), or choose another --data-dir"
            ) from error

    def write(self, remembered: Remembered) -> None:
        """Replace the state file in one step."""
        draft = self.path / f"{_STATE}.new"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(remembered)))
        draft.replace(self.path / _STATE)

    def create(self, brokers: int) -> Remembered:
        """Claim an empty folder for a new cluster.

        Raises:
            BrokerError: the folder holds something else.
        """
        others = sorted(entry.name for entry in self.path.iterdir() if entry.name != _LOCK)
        if others:
            raise BrokerError(
                f"{self.path} is not a folder of an embedded broker (it holds {others[0]!r}):"
                " choose an empty or new one with --data-dir"
            )
        ports = free_ports(brokers * _PORTS_PER_NODE)
        remembered = Remembered(
            base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="),
            {node: Node(Ports(*(ports.pop() for _ in range(3)))) for node in range(1, brokers + 1)},
        )
        self.write(remembered)
        return remembered

    def check_unlocked(self, node: int) -> None:
        """Check that no unknown broker works on a node's data.

        Raises:
            BrokerError: one does.
        """
        path = self.data(node) / ".lock"
        if not path.exists():
            return
        with path.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BrokerError(
                    f"a Kafka process that this folder does not remember holds {path}: end it"
                    f" (its command line names {self.properties(node)}), or choose another"
                    " --data-dir"
                ) from error

    def has_started(self, node: int) -> bool:
        """Tell whether a node has said that all its listeners are open."""
        return _STARTED in self._printed(node)

    def last_error(self, node: int) -> str:
        """Return the last error that a node printed, in one line."""
        return most_telling(self._printed(node))

    def _printed(self, node: int) -> str:
        try:
            return self.log(node).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


def most_telling(output: str) -> str:
    """Return the last line of a Java program's output that names an error, or else the last."""
    lines = output.strip().splitlines()
    telling = [line for line in lines if "ERROR" in line or "Exception" in line]
    return (telling or lines or ["it printed nothing"])[-1].strip()[:300]
