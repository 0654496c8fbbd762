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


def test_command_line_beats_environment_beats_file_beats_default(tmp_path, monkeypatch):
    file = tmp_path / "settings.toml"
    file.write_text(
        'app_id = "file"\n[worker]\nbatch_size = 1\ncommit_interval_ms = "2s"\n'
        '[kafka]\nbootstrap_servers = "file:1"\n'
    )
    monkeypatch.setenv("INTENTSTREAM_WORKER__BATCH_SIZE", "2")
    monkeypatch.setenv("INTENTSTREAM_KAFKA__BOOTSTRAP_SERVERS", "env:1")
    settings = load_settings(file, {"kafka": {"bootstrap_servers": "cli:1"}, "app_id": None})
    assert settings.kafka.bootstrap_servers == "cli:1"
    assert settings.worker.batch_size == 2
    assert settings.worker.commit_interval_ms == 2_000
    assert settings.app_id == "file"
    assert settings.topics.partitions == 4


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"kafka": {"bootstrap": "x:1"}},
            r"kafka\.bootstrap: unknown setting; did you mean kafka\.bootstrap_servers\?",
        ),
        ({"nonsense": 1}, r"nonsense: unknown setting"),
        ({"churn": {"raise_at": 0.3}}, r"churn: .*resolve_at < raise_at <= escalate_at"),
        ({"state": {"grace_ms": "soon"}}, r"state\.grace_ms: .*15m"),
        ({"state": {"grace_ms": -1}}, r"state\.grace_ms: .*greater than or equal to 0"),
        ({"state": {"ttl_ms": "999999999d"}}, r"state\.ttl_ms: .*less than or equal to"),
        ({"train": {"pretrain_task": "masked"}}, r"train\.pretrain_task: .*'masked_event'"),
        ({"train": {"pretrain_mask": 1.0}}, r"train\.pretrain_mask: .*less than 1"),
        ({"train": {"next_action_weight": -0.1}}, r"train\.next_action_weight: .*or equal to 0"),
        ({"topics": {"late": "shop.events"}}, r"topics: .*two topics share the name shop\.events"),
        ({"topics": {"late": "a b"}}, r"topics\.late: "),
        ({"kafka": {"sasl_username": "u"}}, r"security_protocol is PLAINTEXT.*SASL_SSL"),
        ({"kafka": {"security_protocol": "SASL_SSL"}}, r"needs sasl_username and sasl_password"),
        ({"kafka": {"ssl_cafile": "ca.pem"}}, r"TLS files are set but"),
        ({"kafka": {"ssl_keyfile": "key.pem"}}, r"ssl_keyfile needs ssl_certfile"),
    ],
)
def test_wrong_settings_are_named(tree, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(overrides=tree)


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(SettingsError, match=r"worker\.device.*worker\.batch_size"):
        load_settings(overrides={"worker": {"batch_size": 0, "device": "tpu"}})


def test_secrets_are_in_no_message_and_no_dump():
    kafka = {"sasl_username": "u", "sasl_password": "hunter2", "security_protocol": "TLS"}
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides={"kafka": kafka})
    assert "hunter2" not in str(caught.value)
    kafka["security_protocol"] = "SASL_SSL"
    settings = load_settings(overrides={"kafka": kafka})
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


@pytest.mark.parametrize("content", ["a = ", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / "settings.toml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.write_text(content)
    with pytest.raises(SettingsError, match=r"cannot read the settings file .*settings\.toml"):
        load_settings(file)


def test_an_unreadable_environment_is_named(monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_WORKER", "not json")
    with pytest.raises(SettingsError, match="INTENTSTREAM_"):
        load_settings()


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
