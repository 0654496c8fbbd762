"""A broker that demands TLS and SASL SCRAM and allows nothing that was not granted.

Clients reach it through a relay that keeps the first bytes of every connection and follows all of
them, so that a test can tell whether anything but TLS was ever sent.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from stream.broker import EmbeddedKafka
from stream.broker.folder import Folder
from tests.deployed import program

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
ITERATIONS: Final = 4096
SCRAM_SHA_512: Final = 2
KINDS: Final = {"topic": 2, "group": 3, "cluster": 4, "transactional_id": 5}
OPERATIONS: Final = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Alter": 7,
    "Describe": 8,
    "DescribeConfigs": 10,
}
LITERAL, PREFIXED = 3, 4
ALLOW: Final = 3
TLS_RECORDS: Final = range(20, 24)
"""Change of cipher, alert, handshake, application data."""


deployed = program("acls/rights.py")


class _AlterScramResponse(Response):
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _AlterScramRequest(RequestStruct):
    API_KEY = 51
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _AlterScramResponse
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(
                ("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields)
            ),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterScram(Request[_AlterScramRequest]):
    """Sets the password of a user; aiokafka has no such request."""

    API_KEY = 51

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password

    def build(self, request_struct_class: type[_AlterScramRequest]) -> _AlterScramRequest:
        salt = os.urandom(16)
        salted = hashlib.pbkdf2_hmac("sha512", self._password.encode(), salt, ITERATIONS)
        user = (self._user, SCRAM_SHA_512, ITERATIONS, salt, salted, {})
        return request_struct_class([], [user], {})


@dataclass
class Conversation:
    """What one client sent over one connection."""

    first: bytes = b""
    sent: int = 0
    not_tls: bytes | None = None
    """Where the stream ceases to be TLS records: the bytes there."""
    _pending: bytearray = field(default_factory=bytearray)

    def take(self, data: bytes) -> None:
        self.sent += len(data)
        self.first += data[: max(0, 4096 - len(self.first))]
        self._pending += data
        while self.not_tls is None and len(self._pending) >= 5:
            kind, major, length = self._pending[0], self._pending[1], self._pending[3:5]
            end = 5 + int.from_bytes(length, "big")
            if kind not in TLS_RECORDS or major != 3:
                self.not_tls = bytes(self._pending[:64])
            elif len(self._pending) < end:
                return
            else:
                del self._pending[:end]


class Relay:
    """Passes connections on to another loopback port and looks at what clients send."""

    def __init__(self) -> None:
        self.conversations: list[Conversation] = []
        self.target = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = Conversation()
        self.conversations.append(heard)
        with contextlib.closing(writer), contextlib.suppress(OSError):
            back, onward = await asyncio.open_connection("127.0.0.1", self.target)
            with contextlib.closing(onward):
                await asyncio.gather(
                    self._pass(reader, onward, heard), self._pass(back, writer, None)
                )

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        heard: Conversation | None,
    ) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if heard is not None:
                    heard.take(data)
                writer.write(data)
                await writer.drain()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class SecuredKafka:
    """The broker; clients use `port`, the test itself the open internal port."""

    folder: Path
    relay: Relay
    internal: str
    authority: Path
    stranger: Path
    """Certificate of an authority that has nothing to do with the broker."""
    log: Path
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.relay.port}"

    def client(self, user: str, **changes: Any) -> dict[str, Any]:
        """The `kafka` section of a client's settings."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": user,
            "sasl_password": self.passwords[user],
            "ssl_cafile": str(self.authority),
            **changes,
        }

    def add_user(self, user: str) -> str:
        """Make a user, or keep the one that is there; return the password."""
        if user not in self.passwords:
            # With characters that careless quoting breaks on.
            password = f"{base64.b64encode(os.urandom(12)).decode()};'\"\\ä"
            asyncio.run(self._send([AlterScram(user, password)]))
            self.passwords[user] = password
        return self.passwords[user]

    def grant(self, user: str, rights: Iterable[Any]) -> None:
        """Allow a user these rights."""
        self.add_user(user)
        asyncio.run(
            self._send(
                [
                    CreateAclsRequest(
                        KINDS[right.kind],
                        right.name,
                        PREFIXED if right.prefixed else LITERAL,
                        f"User:{user}",
                        "*",
                        OPERATIONS[right.operation],
                        ALLOW,
                    )
                    for right in rights
                ]
            )
        )

    async def _send(self, requests: list[Request[Any]]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.internal)
        await admin.start()
        try:
            for request in requests:
                answer = (await admin._send_to_controller(request)).to_object()
                results = answer.get("results") or answer["creation_responses"]
                assert not any(result["error_code"] for result in results), answer
        finally:
            await admin.close()


def for_java(server: trustme.LeafCert) -> bytes:
    """Key and certificates in one PEM file; Java reads keys in PKCS #8 form only."""
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pkcs8 + b"".join(blob.bytes() for blob in server.cert_chain_pems)


@contextlib.contextmanager
def run_secured(folder: Path) -> Iterator[SecuredKafka]:
    """Start it with no users and no rights; stop it afterwards."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")
    (folder / "server.pem").write_bytes(for_java(authority.issue_cert("127.0.0.1")))
    data = Folder(folder / "data")
    with data.locked():
        ports = data.create(1).nodes[1].ports
    relay = Relay()
    relay.target = ports.client
    internal = f"127.0.0.1:{ports.internal}"
    broker = EmbeddedKafka(
        folder / "data",
        properties={
            "listener.security.protocol.map": (
                "CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "advertised.listeners": f"CLIENT://127.0.0.1:{relay.port},INTERNAL://{internal}",
            "listener.name.client.ssl.keystore.type": "PEM",
            "listener.name.client.ssl.keystore.location": str(folder / "server.pem"),
            "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.client.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The broker itself, on its own two listeners; clients cannot be anonymous.
            "super.users": "User:ANONYMOUS",
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "JAVA_TOOL_OPTIONS", "-Dorg.slf4j.simpleLogger.log.kafka.authorizer.logger=debug"
        )
        try:
            broker.start()
            yield SecuredKafka(
                folder,
                relay,
                internal,
                folder / "ca.pem",
                folder / "other-ca.pem",
                data.log(1),
            )
        finally:
            broker.stop()
            relay.close()
            shutil.rmtree(folder / "data", ignore_errors=True)
