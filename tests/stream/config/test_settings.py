import subprocess
import sys

import pytest
from pydantic import ValidationError

from stream.config.loading import load_settings
from stream.config.secure_settings import KafkaSettings
from stream.config.settings import Settings
from stream.errors import SettingsError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("KAFKA__BOOTSTRAP_SERVERS", "DATA_DIR"):
        monkeypatch.delenv(f"INTENTSTREAM_{name}", raising=False)


def test_defaults_hold_the_wire_contract():
    settings = load_settings()
    assert settings.topics.events == "shop.events"
    assert settings.changelog == "intentstream.users.changelog"
    assert load_settings(overrides={"app_id": "shop2"}).changelog == "shop2.users.changelog"
    assert settings.worker.guarantee == "exactly_once"


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().topics.partitions = 8


def test_client_options_without_a_broker_name_the_remedies():
    with pytest.raises(SettingsError, match=r"--bootstrap-servers.*intentstream broker start"):
        KafkaSettings().client_options()


def test_client_options_of_a_sasl_listener_over_tls():
    options = KafkaSettings(
        bootstrap_servers="k:9093",
        security_protocol="SASL_SSL",
        sasl_username="u",
        sasl_password="p",
    ).client_options()
    assert options["ssl_context"].check_hostname
    assert options["sasl_plain_password"] == "p"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"


def test_plaintext_has_no_credentials_and_no_context():
    options = KafkaSettings(bootstrap_servers="k:9092").client_options()
    assert options == {"bootstrap_servers": "k:9092", "security_protocol": "PLAINTEXT"}


def test_missing_tls_files_are_named(tmp_path):
    settings = KafkaSettings(
        bootstrap_servers="k:9093", security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem"
    )
    with pytest.raises(SettingsError, match=r"cannot read the TLS files .*ca\.pem"):
        settings.client_options()


@pytest.mark.slow
def test_importing_settings_does_not_load_heavy_libraries():
    code = (
        "import sys, stream.config.settings, stream.cli.main;"
        "print([m for m in ('torch', 'faust', 'aiokafka', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_pages_on_loopback_need_no_token(host):
    assert Settings(worker={"http_port": 0, "http_host": host}).worker.http_token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "worker.shop", ""])  # noqa: S104
def test_pages_elsewhere_need_a_token(host):
    worker = {"http_port": 8080, "http_host": host}
    with pytest.raises(SettingsError, match=r"set http_token"):
        load_settings(overrides={"worker": worker})
    token = "an-open-secret-of-the-test"
    settings = load_settings(overrides={"worker": {**worker, "http_token": token}})
    assert token not in settings.model_dump_json() + repr(settings)
    assert settings.worker.http_secret() == token
    short = load_settings(overrides={"worker": {**worker, "http_token": "too-short"}})
    with pytest.raises(SettingsError, match=r"worker\.http_token has 9 characters") as caught:
        short.worker.http_secret()
    assert "too-short" not in str(caught.value)


def test_a_token_may_lie_in_a_file(tmp_path):
    file = tmp_path / "token"
    file.write_text("an-open-secret-of-the-test\n")
    worker = {"http_host": "0.0.0.0", "http_token_file": file}  # noqa: S104
    settings = load_settings(overrides={"worker": worker})
    assert settings.worker.http_secret() == "an-open-secret-of-the-test"
    with pytest.raises(SettingsError, match="are both set"):
        load_settings(overrides={"worker": {**worker, "http_token": "x" * 16}})
