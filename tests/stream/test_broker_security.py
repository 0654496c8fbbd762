"""TLS and SASL, as the settings describe them, against a listener that demands them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from stream.broker import EmbeddedKafka
from stream.config.settings import Settings, load_settings
from stream.errors import BrokerError
from stream.kafka.topics import check_topics, create_topics
from tests.secured import for_java

pytestmark = pytest.mark.kafka

# A password that breaks careless quoting.
USER, PASSWORD = "worker", "s3cret;'\"\\ä"


@dataclass(frozen=True)
class Secured:
    bootstrap_servers: str
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
        yield Secured(servers, *(folder / name for name in names))
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


async def test_a_wrong_password_is_refused_in_one_line_without_the_password(secured):
    with pytest.raises(BrokerError, match=r"SASL_SSL") as caught:
        await check_topics(settings_for(secured, sasl_password="hunter2"))
    assert "hunter2" not in str(caught.value)
    assert "kafka settings" in str(caught.value)


async def test_a_broker_of_another_authority_is_not_trusted(secured):
    with pytest.raises(BrokerError, match=r"--bootstrap-servers"):
        await check_topics(settings_for(secured, ssl_cafile=secured.stranger))


async def test_a_certificate_for_another_name_is_not_trusted(secured):
    port = secured.bootstrap_servers.rpartition(":")[2]
    with pytest.raises(BrokerError, match=rf"localhost:{port}"):
        await check_topics(settings_for(secured, bootstrap_servers=f"localhost:{port}"))
