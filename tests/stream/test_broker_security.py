"""TLS and SASL, as the settings describe them, against a listener that demands them."""

import asyncio
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from stream.broker import EmbeddedKafka
from stream.broker.folder import Folder
from stream.broker.process import free_ports
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.errors import BrokerError
from stream.kafka.topics import check_topics, create_topics
from tests.secured import for_java

pytestmark = pytest.mark.kafka

# A password that breaks careless quoting.
USER, PASSWORD = "worker", "s3cret;'\"\\ä"


@dataclass(frozen=True)
class Secured:
    bootstrap_servers: str
    internal: str
    """The port without TLS, for brokers among themselves."""
    authority: Path
    client: Path
    stranger: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")
    authority.issue_cert("client@shop").private_key_and_cert_chain_pem.write_to_path(
        folder / "client.pem"
    )
    (folder / "server.pem").write_bytes(for_java(server))
    quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    jaas = (
        f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{quoted}";'
    )
    broker = EmbeddedKafka(
        folder / "data",
        properties={
            "listener.security.protocol.map": (
                "CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "listener.name.client.ssl.keystore.type": "PEM",
            "listener.name.client.ssl.keystore.location": str(folder / "server.pem"),
            "listener.name.client.ssl.truststore.type": "PEM",
            "listener.name.client.ssl.truststore.location": str(folder / "ca.pem"),
            "listener.name.client.ssl.client.auth": "requested",
            "listener.name.client.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.client.plain.sasl.jaas.config": jaas,
        },
    )
    try:
        servers = broker.start().bootstrap_servers
        names = ("ca.pem", "client.pem", "other-ca.pem")
        internal = Folder(folder / "data").read().nodes[1].ports.internal
        yield Secured(servers, f"127.0.0.1:{internal}", *(folder / name for name in names))
    finally:
        broker.stop()
        shutil.rmtree(folder / "data", ignore_errors=True)


def settings_for(secured: Secured, **kafka: Any) -> Settings:
    options = {
        "bootstrap_servers": secured.bootstrap_servers,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
        "ssl_cafile": secured.authority,
    }
    return load_settings(overrides={"kafka": options | kafka, "topics": {"partitions": 1}})


async def test_the_right_credentials_over_tls_are_let_in(secured):
    await create_topics(settings_for(secured))
    await check_topics(settings_for(secured, ssl_certfile=secured.client))


STRANGER, INTERNAL, NOBODY = "stranger", "internal", "nobody"


@pytest.mark.parametrize(
    ("kafka", "told"),
    [
        ({"sasl_password": "hunter2"}, r"refuses user worker: no such user, or another password"),
        ({"sasl_username": "who"}, r"refuses user who: .*sasl_username and kafka.sasl_password"),
        (
            {"sasl_mechanism": "SCRAM-SHA-512"},
            r"does not offer SCRAM-SHA-512 but PLAIN: set kafka.sasl_mechanism",
        ),
        ({"ssl_cafile": STRANGER}, r"authority that is not trusted .*set kafka.ssl_cafile"),
        ({"bootstrap_servers": "localhost:PORT"}, r"localhost:\d+ is for another host name"),
        (
            {"security_protocol": "SSL", "sasl_username": None, "sasl_password": None},
            r"demands SASL \(PLAIN\), .* set it to SASL_SSL",
        ),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": None}, r"speaks TLS.*to SASL_SSL"),
        (
            {
                "security_protocol": "PLAINTEXT",
                "ssl_cafile": None,
                "sasl_username": None,
                "sasl_password": None,
            },
            r"speaks TLS, and kafka.security_protocol is PLAINTEXT: set it to SSL",
        ),
        ({"bootstrap_servers": INTERNAL}, r"answers at \S+ with TLS .*set SASL_PLAINTEXT only"),
        (
            {
                "bootstrap_servers": INTERNAL,
                "security_protocol": "SASL_PLAINTEXT",
                "ssl_cafile": None,
            },
            r"knows no SASL, .* set it to PLAINTEXT",
        ),
        ({"bootstrap_servers": "no.such.host.invalid:9092"}, r"no.such.host.invalid is not known"),
        ({"bootstrap_servers": NOBODY}, r"connection refused.*run `intentstream broker start`"),
    ],
)
async def test_what_keeps_a_client_out_is_named(secured, kafka, told):
    servers = {
        STRANGER: secured.stranger,
        INTERNAL: secured.internal,
        NOBODY: f"127.0.0.1:{free_ports(1)[0]}",
        "localhost:PORT": f"localhost:{secured.bootstrap_servers.rpartition(':')[2]}",
    }
    settings = settings_for(secured, **{k: servers.get(v, v) for k, v in kafka.items()})
    with pytest.raises(BrokerError, match=told) as caught:
        await check_topics(settings)
    assert "hunter2" not in str(caught.value)
    if kafka.get("bootstrap_servers") != NOBODY:
        assert "broker start" not in str(caught.value)


@pytest.mark.parametrize(
    ("begin", "end", "told"),
    [(-2, -1, r"has expired: renew it"), (1, 2, r"not valid yet: check this machine's clock")],
)
async def test_a_certificate_out_of_its_time_is_named(tmp_path, begin, end, told):
    authority, now = trustme.CA(), datetime.now(UTC)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert(
        "127.0.0.1",
        not_before=now + timedelta(days=begin),
        not_after=now + timedelta(days=end),
    )
    certificate.configure_cert(context)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        kafka = {
            "bootstrap_servers": f"127.0.0.1:{port}",
            "security_protocol": "SSL",
            "ssl_cafile": str(tmp_path / "ca.pem"),
        }
        with pytest.raises(BrokerError, match=told):
            await check_topics(load_settings(overrides={"kafka": kafka}))


async def test_what_answers_and_is_no_kafka_is_named():
    async def page(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        kafka = {"bootstrap_servers": f"127.0.0.1:{port}"}
        with pytest.raises(BrokerError, match=rf"127.0.0.1:{port} .*cannot be used"):
            await check_topics(load_settings(overrides={"kafka": kafka}))
