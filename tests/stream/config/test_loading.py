import re

import pytest

from stream.config.loading import load_settings
from stream.errors import SettingsError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("KAFKA__BOOTSTRAP_SERVERS", "DATA_DIR"):
        monkeypatch.delenv(f"INTENTSTREAM_{name}", raising=False)


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
        ({"train": {"learning_rate": float("inf")}}, r"train\.learning_rate: .*finite"),
        ({"train": {"task_weights": {"churn": float("inf")}}}, r"task_weights\.churn: .*finite"),
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a = ", r"Invalid value \(at end of document\)"),
        (b"\xff\xfea\x00", "byte 0 is no UTF-8: save the file as UTF-8"),
        (b"a = " + b"[" * 5_000 + b"]" * 5_000, "nested too deeply"),
        (b".".join([b"a"] * 5_000) + b" = 1", "nested too deeply"),
        (b"a = " + b"9" * 5_000, "a number has too many digits"),
        (None, "No such file or directory"),
    ],
    ids=["toml", "utf-16", "deep list", "deep key", "digits", "absent"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, why):
    file = tmp_path / "settings.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert re.fullmatch(
        rf"cannot read the settings file \S*settings\.toml: .*{why}.*", str(caught.value)
    )


def test_a_file_may_begin_with_a_mark_of_its_encoding(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_bytes(b'\xef\xbb\xbfapp_id = "shop"\n')
    assert load_settings(file).app_id == "shop"


def test_an_unreadable_environment_is_named(monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_WORKER", "not json")
    with pytest.raises(SettingsError, match="INTENTSTREAM_"):
        load_settings()


def test_messages_name_file_and_line_variable_or_command_line(tmp_path, monkeypatch):
    file = tmp_path / "settings.toml"
    file.write_text("[worker]\nbatch_size = 0\n[state]\nring = 0\nttl_ms = 'soon'\n")
    monkeypatch.setenv("INTENTSTREAM_STATE__RING", "many")
    with pytest.raises(SettingsError) as caught:
        load_settings(file, {"worker": {"device": "tpu"}})
    message = str(caught.value)
    assert f"{file}:2: worker.batch_size: " in message
    assert f"{file}:5: state.ttl_ms: " in message
    assert "INTENTSTREAM_STATE__RING: state.ring: " in message
    assert "command line: worker.device: " in message
