"""What one node of the embedded cluster is told: its `server.properties` and its JVM."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stream.broker.process import LOOPBACK

REPLICAS = 3
SESSION_MS = 9_000
"""A broker that sends no heartbeat for this long loses its partitions to the copies; Kafka's own
default. A killed one may rejoin only once its session has ended."""
LONE_SESSION_MS = 15_000
"""The same where no copy takes over: a machine that is too busy for that long would have partitions
without a leader, which a commit does not wait for (`stream/kafka/markers.py`)."""
_HEAP = "512m"
JVM = (
    f"-Xmx{_HEAP}",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    # Says when every listener is open: a port that answers may be another program's.
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
FORMAT_JVM = (*JVM, "-XX:TieredStopAtLevel=1")
OPTIONS = "KAFKA_OPTS"
"""Environment variable with more options of the JVM, as Kafka's own scripts read it."""


def more_options() -> tuple[str, ...]:
    """Return the options of `KAFKA_OPTS`, which come after the built-in ones."""
    return tuple(shlex.split(os.environ.get(OPTIONS, "")))


@dataclass(frozen=True)
class Ports:
    """Loopback ports of a node: for clients, between brokers, between controllers."""

    client: int
    internal: int
    controller: int


def server_properties(
    node: int, nodes: Mapping[int, Ports], log: Path, extra: Mapping[str, str]
) -> dict[str, str]:
    """Return the properties of node `node` of the cluster `nodes`, whose data goes to `log`.

    Brokers talk to each other on a listener of their own, so that `extra` may put TLS or SASL on
    the CLIENT listener alone.
    """
    ports = nodes[node]
    copies = str(min(REPLICAS, len(nodes)))
    in_sync = "2" if len(nodes) >= REPLICAS else "1"
    properties = {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": ",".join(
            f"{other}@{LOOPBACK}:{its.controller}" for other, its in nodes.items()
        ),
        "listeners": (
            f"CLIENT://{LOOPBACK}:{ports.client},INTERNAL://{LOOPBACK}:{ports.internal},"
            f"CONTROLLER://{LOOPBACK}:{ports.controller}"
        ),
        "advertised.listeners": (
            f"CLIENT://{LOOPBACK}:{ports.client},INTERNAL://{LOOPBACK}:{ports.internal}"
        ),
        "listener.security.protocol.map": (
            "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(log),
        # Topics are created with the layout that the worker checks, never by a stray producer.
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "8",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "broker.session.timeout.ms": str(SESSION_MS if len(nodes) >= REPLICAS else LONE_SESSION_MS),
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A replay writes records whose timestamps are years old; they must not expire on arrival.
        "log.retention.ms": "-1",
        "message.max.bytes": str(16 << 20),
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
    }
    return properties | dict(extra)


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Write a Java properties file, readable by its owner alone (it may hold passwords)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    lines = [f"{key}={_escaped(value)}\n" for key, value in properties.items()]
    path.write_text("".join(lines), encoding="ascii")


def _escaped(value: str) -> str:
    units = value.replace("\\", "\\\\").replace("\n", "\\n").encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    text = "".join(chr(code) if code < 0x80 else f"\\u{code:04x}" for code in codes)  # noqa: PLR2004
    return f"\\{text}" if text.startswith(" ") else text
