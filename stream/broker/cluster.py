"""Start, find, stop and break an embedded Kafka cluster of one or more brokers."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from stream.broker import process
from stream.broker.config import (
    FORMAT_JVM,
    JVM,
    more_options,
    server_properties,
    write_properties,
)
from stream.broker.folder import Folder, Remembered, most_telling
from stream.broker.jars import classpath, java
from stream.errors import BrokerError

_READY_S = 60.0
_FOUND_S = 15.0
_ANSWER_MS = 3_000
_STOP_S = 10.0
_POLL_S = 0.05
_FIRST = 1


class _PortTaken(BrokerError):
    """A broker found one of its ports in use."""


@dataclass(frozen=True)
class BrokerInfo:
    """A running cluster.

    Attributes:
        bootstrap_servers: `host:port` of every broker, comma-separated.
        pids: process of each node (1, 2, ...).
        found: the cluster was already running.
        notices: one line for each thing that was not as an earlier run should have left it.
    """

    bootstrap_servers: str
    pids: dict[int, int]
    found: bool = False
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeStatus:
    """One broker: `running` is its process, `answers` its port."""

    node: int
    port: int
    pid: int | None
    running: bool
    answers: bool


class EmbeddedKafka:
    """An Apache Kafka cluster in KRaft mode on loopback ports, with its data in one folder."""

    def __init__(
        self,
        data_dir: Path,
        brokers: int | None = None,
        properties: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        """Describe the cluster; `start` makes or finds it.

        Args:
            data_dir: folder of its own; everything of the cluster lies in it.
            brokers: number of nodes; None: as many as the folder holds, or one.
            properties: server properties that go before the built-in ones, on every node.
            port: loopback port for clients of the first node; None: the one it had, or a free one.
        """
        self._folder = Folder(data_dir)
        self._brokers = brokers
        self._port = port
        self._extra = dict(properties or {})

    def start(self, progress: Callable[[str], None] = lambda _: None) -> BrokerInfo:
        """Start the cluster, or what of it does not run, and wait until it serves.

        Args:
            progress: told, one line each, what takes long.

        Raises:
            BrokerError: it cannot be started; says why and what to do.
        """
        with self._folder.locked():
            remembered = self._folder.read()
            if remembered is None:
                self._check_free()
                remembered = self._folder.create(self._brokers or 1)
            self._check_size(remembered)
            dead = [node for node in remembered.nodes if not self._runs(remembered, node)]
            if not dead:
                self._check_port(remembered)
                self._wait(remembered, [], _FOUND_S)
                return self._info(remembered, found=True)
            if self._port is not None:
                self._take_port(remembered, self._port)
            notices = [
                f"broker {node} (pid {remembered.nodes[node].pid}) had ended without being"
                " stopped; its data is recovered"
                for node in dead
                if remembered.nodes[node].pid is not None
            ]
            if len(dead) == len(remembered.nodes):
                notices += self._renew_ports(remembered)
            try:
                self._launch(remembered, dead, progress)
            except _PortTaken:
                # By somebody who came between the look and the broker: a race is not lost twice.
                if len(dead) == len(remembered.nodes):
                    notices += self._renew_ports(remembered)
                self._launch(remembered, dead, progress)
            return self._info(remembered, notices=tuple(notices))

    def stop(self) -> bool:
        """Stop every broker; return whether any ran.

        Raises:
            BrokerError: a process does not end.
        """
        remembered = self._folder.read()
        if remembered is None:
            return False
        with self._folder.locked():
            remembered = self._folder.read() or remembered
            running = [node for node in remembered.nodes if self._runs(remembered, node)]
            self._end(remembered, running, _STOP_S)
            for node in remembered.nodes.values():
                node.pid = None
            self._folder.write(remembered)
        return bool(running)

    def status(self) -> list[NodeStatus]:
        """Return one entry per broker that the folder knows; empty for a folder without one."""
        remembered = self._folder.read()
        if remembered is None:
            return []
        return [
            NodeStatus(
                number,
                node.ports.client,
                node.pid,
                self._runs(remembered, number),
                process.accepts(node.ports.client),
            )
            for number, node in remembered.nodes.items()
        ]

    def kill(self, node: int) -> None:
        """Kill one broker with SIGKILL and wait until it is gone."""
        with self._folder.locked():
            remembered = self._known()
            self._end(remembered, [node], 0)

    def restart(self, node: int) -> BrokerInfo:
        """Stop one broker if it runs, and start it again on the same ports."""
        with self._folder.locked():
            remembered = self._known()
            self._end(remembered, [node], _STOP_S)
            self._launch(remembered, [node], lambda _: None)
            return self._info(remembered)

    def _known(self) -> Remembered:
        remembered = self._folder.read()
        if remembered is None:
            raise BrokerError(f"no broker was ever started in {self._folder.path}")
        return remembered

    def _check_size(self, remembered: Remembered) -> None:
        size = len(remembered.nodes)
        if self._brokers not in {None, size}:
            raise BrokerError(
                f"{self._folder.path} holds a cluster of {size}, not of {self._brokers}: pass"
                f" --brokers {size}, or another --data-dir"
            )

    def _check_port(self, remembered: Remembered) -> None:
        port = remembered.nodes[_FIRST].ports.client
        if self._port not in {None, port}:
            raise BrokerError(
                f"the broker in {self._folder.path} runs on port {port}: run `intentstream broker"
                f" stop` before you start it on port {self._port}, or leave --port out"
            )

    def _take_port(self, remembered: Remembered, port: int) -> None:
        """Give the first node, which may run no more, the port that was asked for."""
        node = remembered.nodes[_FIRST]
        if self._runs(remembered, _FIRST):
            self._check_port(remembered)
        else:
            self._check_free()
            node.ports = replace(node.ports, client=port)

    def _check_free(self) -> None:
        if self._port is not None and not process.is_free(self._port):
            raise BrokerError(
                f"port {self._port} of this machine is taken by another program: end it, or choose"
                " another one with --port"
            )

    def _runs(self, remembered: Remembered, node: int) -> bool:
        pid = remembered.nodes[node].pid
        return pid is not None and process.is_alive(pid, str(self._folder.properties(node)))

    def _end(self, remembered: Remembered, nodes: list[int], grace_s: float) -> None:
        marks = {
            pid: str(self._folder.properties(node))
            for node in nodes
            if (pid := remembered.nodes[node].pid) is not None
        }
        process.end(marks, grace_s)

    def _renew_ports(self, remembered: Remembered) -> list[str]:
        """Give a cluster of which nothing runs new ports where others took the old ones."""
        notices = []
        for number, node in remembered.nodes.items():
            for name in ("client", "internal", "controller"):
                old = getattr(node.ports, name)
                if not process.is_free(old):
                    (new,) = process.free_ports(1)
                    node.ports = replace(node.ports, **{name: new})
                    notices.append(
                        f"port {old} of broker {number} is taken by another program; it now"
                        f" uses {new}"
                    )
        return notices

    def _launch(
        self, remembered: Remembered, nodes: list[int], progress: Callable[[str], None]
    ) -> None:
        command = [str(java()), "-cp", classpath(progress)]
        ports = {number: node.ports for number, node in remembered.nodes.items()}
        for node in nodes:
            self._folder.check_unlocked(node)
            properties = server_properties(node, ports, self._folder.data(node), self._extra)
            write_properties(self._folder.properties(node), properties)
        progress(f"starting Apache Kafka in {self._folder.path}")
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: self._format(remembered, node, command), nodes))
        try:
            for node in nodes:
                mark = str(self._folder.properties(node))
                jvm = [*JVM, *more_options()]
                arguments = [command[0], *jvm, *command[1:], "kafka.Kafka", mark]
                remembered.nodes[node].pid = process.spawn(arguments, self._folder.log(node))
                self._folder.write(remembered)
            self._wait(remembered, nodes, _READY_S)
        except BaseException:
            self._end(remembered, nodes, 0)
            for node in nodes:
                remembered.nodes[node].pid = None
            self._folder.write(remembered)
            raise

    def _format(self, remembered: Remembered, node: int, command: list[str]) -> None:
        if (self._folder.data(node) / "meta.properties").exists():
            return
        properties = str(self._folder.properties(node))
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={remembered.cluster_id}"]
        tool += ["--config", properties]
        done = subprocess.run(  # noqa: S603
            [command[0], *FORMAT_JVM, *more_options(), *command[1:], *tool],
            capture_output=True,
            text=True,
            check=False,
            timeout=_READY_S,
        )
        if done.returncode != 0:
            raise BrokerError(
                f"cannot format {self._folder.data(node)} for Kafka: "
                f"{most_telling(done.stdout + done.stderr)}; check"
                " --property and the free space, or choose another --data-dir"
            )

    def _wait(self, remembered: Remembered, launched: list[int], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        internal = [node.ports.internal for node in remembered.nodes.values()]
        servers = ",".join(f"{process.LOOPBACK}:{port}" for port in internal)
        while time.monotonic() < deadline:
            for node in remembered.nodes:
                if not self._runs(remembered, node):
                    why = self._folder.last_error(node)
                    kind = _PortTaken if "BindException" in why else BrokerError
                    raise kind(
                        f"broker {node} ended while it started: {why}; all it said is in"
                        f" {self._folder.log(node)}"
                    )
            up = all(map(self._folder.has_started, launched)) and all(
                map(process.accepts, internal)
            )
            if up and _members(servers) >= set(remembered.nodes):
                return
            time.sleep(_POLL_S)
        pids = ", ".join(str(node.pid) for node in remembered.nodes.values())
        raise BrokerError(
            f"the broker (pid {pids}) runs but did not answer within {limit_s:.0f} s: run"
            f" `intentstream broker stop` and start again; what it said is in {self._folder.path}"
            "/node-*/server.log"
        )

    def _info(
        self, remembered: Remembered, *, found: bool = False, notices: tuple[str, ...] = ()
    ) -> BrokerInfo:
        pids = {number: node.pid for number, node in remembered.nodes.items() if node.pid}
        return BrokerInfo(_client_servers(remembered), pids, found, notices)


def running_servers(data_dir: Path) -> str | None:
    """Return the bootstrap servers of the cluster in `data_dir`, or None if none runs.

    Raises:
        BrokerError: the folder's state file is damaged.
    """
    folder = Folder(data_dir)
    remembered = folder.read()
    if remembered is None:
        return None
    for number, node in remembered.nodes.items():
        if node.pid is not None and process.is_alive(node.pid, str(folder.properties(number))):
            return _client_servers(remembered)
    return None


def _client_servers(remembered: Remembered) -> str:
    ports = [node.ports.client for node in remembered.nodes.values()]
    return ",".join(f"{process.LOOPBACK}:{port}" for port in ports)


def _members(servers: str) -> set[int]:
    """Return the ids of the brokers that are part of the cluster now; empty: it does not answer."""
    # A thread of its own, since the caller may be inside a running event loop.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, _ask_members(servers)).result()


async def _ask_members(servers: str) -> set[int]:
    client = AIOKafkaClient(bootstrap_servers=servers, request_timeout_ms=_ANSWER_MS)
    try:
        await client.bootstrap()
        return {broker.nodeId for broker in client.cluster.brokers()}
    except (KafkaError, OSError):
        return set()
    finally:
        await client.close()
