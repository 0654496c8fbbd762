"""A cluster that is not there, does not let the worker in, or loses a topic: the worker ends within
a minute with one line that says why, and never talks without TLS when TLS is set."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.e2e.secured_shop import PASSWORD, SecuredShop
from tests.e2e.shop import put
from tests.e2e.world import Worker, World
from tests.faults.ledger import FaultRow, Scale
from tests.logs import shop_log
from tests.secured import SecuredKafka, deployed, run_secured

pytestmark = pytest.mark.kafka

ROW = 15
NAME = "no broker at start; wrong password, wrong CA, missing right; topic deleted while running"
LIMIT_S = 60


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with run_secured(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


@pytest.fixture
def shop(secured: SecuredKafka, tmp_path: Path) -> Iterator[SecuredShop]:
    """A shop whose topics are there; its workers end with the test."""
    made = SecuredShop(tmp_path, secured, worker={"clock": "event", "device": "cpu"})
    made.run("topics-admin", "topics", "create")
    yield made
    made.world.close()


def refused(worker: Worker, *told: str, secrets: tuple[str, ...] = ()) -> float:
    """Wait until the worker has ended as it should; return the seconds that took."""
    began = time.monotonic()
    code = worker.process.wait(LIMIT_S)
    said = worker.said()
    assert code == 1, said[-3000:]
    assert "Traceback" not in said, said[-3000:]
    (line,) = [x for x in said.splitlines() if x.startswith("intentstream: ")]
    assert said.splitlines()[-1] == line
    for pattern in told:
        assert re.search(pattern, line), line
    for secret in secrets:
        assert secret not in said
    return time.monotonic() - began


def start(shop: SecuredShop, password: str | None = None) -> Worker:
    if shop.config("worker").exists():
        shop.config("worker").rename(shop.world.config)
    return shop.world.start_worker(**{PASSWORD: password or shop.password("worker")})


def change(shop: SecuredShop, **kafka: Any) -> None:
    """Edit the worker's settings file."""
    path = shop.config("worker")
    text = path.read_text()
    for name, value in kafka.items():
        line = f'{name} = "{value}"'
        text, count = re.subn(rf"^{name} = .*$", line, text, flags=re.MULTILINE)
        assert count == 1
    path.write_text(text)


@contextlib.contextmanager
def listener(answer: bytes | None) -> Iterator[tuple[int, list[bytes]]]:
    """A port that takes connections, answers them with `answer` or not, and keeps what it hears."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    done = threading.Event()
    open_ones: list[socket.socket] = []

    def serve() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                connection, _ = server.accept()
                open_ones.append(connection)
                connection.settimeout(1)
                heard.append(connection.recv(4096))
                if answer is not None:
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1], heard
    finally:
        done.set()
        thread.join()
        for each in [server, *open_ones]:
            each.close()


def test_no_broker(shop: SecuredShop, fault_row: FaultRow) -> None:
    with fault_row.attempt() as attempt:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        change(shop, bootstrap_servers=f"127.0.0.1:{port}")
        worker = start(shop)
        attempt.recovered_in(refused(worker, f"no Kafka broker answers at 127.0.0.1:{port}"))


@pytest.mark.parametrize(
    "answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["mute", "http"]
)
def test_something_else_than_a_broker(
    shop: SecuredShop, fault_row: FaultRow, answer: bytes | None
) -> None:
    with fault_row.attempt() as attempt, listener(answer) as (port, heard):
        change(shop, bootstrap_servers=f"127.0.0.1:{port}")
        worker = start(shop)
        attempt.recovered_in(
            refused(worker, "no Kafka broker answers", secrets=(shop.password("worker"),))
        )
        assert heard
        # A TLS handshake and nothing else is tried: no fall back to plain text.
        assert all(first[:2] == b"\x16\x03" for first in heard)
        assert not any(shop.users["worker"].encode() in first for first in heard)


def test_a_broker_without_tls(
    shop: SecuredShop, fault_row: FaultRow, secured: SecuredKafka
) -> None:
    with fault_row.attempt() as attempt:
        change(shop, bootstrap_servers=secured.internal)
        attempt.recovered_in(refused(start(shop), "SASL_SSL"))


def test_credentials_without_tls_must_be_asked_for(shop: SecuredShop, fault_row: FaultRow) -> None:
    with fault_row.attempt() as attempt:
        change(shop, security_protocol="PLAINTEXT")
        before = len(shop.broker.relay.conversations)
        attempt.recovered_in(refused(start(shop), "SASL_PLAINTEXT to send them unencrypted"))
        assert len(shop.broker.relay.conversations) == before


def test_a_client_without_tls_is_not_answered(shop: SecuredShop, fault_row: FaultRow) -> None:
    with fault_row.attempt() as attempt:
        text = shop.config("worker").read_text()
        kept = [x for x in text.splitlines() if not x.startswith(("sasl_", "ssl_"))]
        shop.config("worker").write_text("\n".join(kept))
        change(shop, security_protocol="PLAINTEXT")
        shop.config("worker").rename(shop.world.config)
        attempt.recovered_in(refused(shop.world.start_worker(), r"PLAINTEXT"))


def test_a_wrong_password(shop: SecuredShop, fault_row: FaultRow) -> None:
    with fault_row.attempt() as attempt:
        worker = start(shop, "hunter2-the-wrong-one")
        seconds = refused(worker, "SASL_SSL", "refuses user", secrets=("hunter2",))
        attempt.recovered_in(seconds)


def test_an_unknown_authority(shop: SecuredShop, fault_row: FaultRow) -> None:
    with fault_row.attempt() as attempt:
        change(shop, ssl_cafile=shop.broker.stranger)
        attempt.recovered_in(refused(start(shop), "authority that is not trusted"))


RIGHTS = {
    "nothing": (r".*", "deploy/acls"),
    "events": (r"topic .*\.events Read", "events"),
    "group": (r"group .*", "group"),
    "join": (r"group .*", "lacks rights: Read on group"),
    "transaction": (r"transactional_id .*", "transactional id"),
    "changelog-read": (r"topic .*changelog Read", "changelog"),
    "changelog-write": (r"topic .*changelog Write", "changelog"),
    "predictions": (r"topic .*propensity Write", "propensity"),
    "models": (r"topic .*models Read", "models"),
    "configs": (r"topic .*\.churn DescribeConfigs", "churn"),
}


SHORT = ("nothing", "group", "changelog-write", "events", "models")
"""What `make faults-quick` tries of the rights and of the topics."""


def only_in_full(scale: Scale, name: str) -> None:
    if not scale.full and name not in SHORT:
        pytest.skip("tried by `make faults`")


@pytest.mark.parametrize("missing", RIGHTS)
def test_a_right_is_missing(
    shop: SecuredShop, fault_row: FaultRow, scale: Scale, missing: str
) -> None:
    only_in_full(scale, missing)
    pattern, told = RIGHTS[missing]
    with fault_row.attempt() as attempt:
        user = f"{missing}-{shop.settings.app_id}"
        rights = list(deployed.rights("worker", shop.settings))
        kept = [r for r in rights if not re.fullmatch(pattern, f"{r.kind} {r.name} {r.operation}")]
        assert len(kept) < len(rights)
        if missing == "join":
            kept.append(deployed.Right("group", shop.settings.app_id, "Describe"))
        shop.broker.grant(user, kept)
        change(shop, sasl_username=user)
        shop.send_events(shop_log(5, 20))
        worker = start(shop, shop.broker.passwords[user])
        attempt.recovered_in(refused(worker, told))


@pytest.mark.parametrize("kind", ["events", "changelog", "propensity", "models"])
def test_a_topic_is_deleted_while_the_worker_runs(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, kind: str
) -> None:
    only_in_full(scale, kind)
    plain = world(worker={"clock": "event", "emit": "every", "device": "cpu"})
    log = shop_log(5, 40)
    worker = plain.start_worker()
    put(plain, log[:20])
    plain.wait_committed(20)
    settings = plain.settings
    topic = settings.changelog if kind == "changelog" else getattr(settings.topics, kind)
    with fault_row.attempt() as attempt:
        asyncio.run(delete(plain.bootstrap, topic))
        if kind != "events":
            put(plain, log[20:])
        attempt.recovered_in(refused(worker, re.escape(topic)))


async def delete(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()
