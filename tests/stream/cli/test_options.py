from pathlib import Path

import pytest

from stream.broker.folder import Folder
from stream.cli.options import broker_folder, read_settings
from stream.errors import BrokerError, SettingsError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("INTENTSTREAM_KAFKA__BOOTSTRAP_SERVERS", raising=False)


def test_options_go_before_the_file(tmp_path):
    file = tmp_path / "shop.toml"
    file.write_text('app_id = "shop"\n[kafka]\nbootstrap_servers = "file:1"\n')
    assert read_settings(file).kafka.bootstrap_servers == "file:1"
    settings = read_settings(file, "cli:1", tmp_path, worker={"device": "cpu"}, app_id=None)
    assert settings.kafka.bootstrap_servers == "cli:1"
    assert settings.data_dir == tmp_path
    assert settings.worker.device == "cpu"
    assert settings.app_id == "shop"


def test_without_a_cluster_the_running_embedded_one_is_taken(tmp_path, monkeypatch):
    folder = Folder(broker_folder(read_settings(data_dir=tmp_path)))
    assert read_settings(data_dir=tmp_path).kafka.bootstrap_servers == ""
    with folder.locked():
        remembered = folder.create(1)
    remembered.nodes[1].pid = 1
    folder.write(remembered)
    assert read_settings(data_dir=tmp_path).kafka.bootstrap_servers == ""
    monkeypatch.setattr("stream.broker.process.is_alive", lambda pid, mark: pid == 1)
    port = remembered.nodes[1].ports.client
    assert read_settings(data_dir=tmp_path).kafka.bootstrap_servers == f"127.0.0.1:{port}"
    named = read_settings(data_dir=tmp_path, bootstrap_servers="other:1")
    assert named.kafka.bootstrap_servers == "other:1"


def test_a_damaged_broker_folder_is_named(tmp_path):
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "broker.json").write_text("{")
    with pytest.raises(BrokerError, match=r"broker\.json"):
        read_settings(data_dir=tmp_path)


def test_a_missing_file_is_named():
    with pytest.raises(SettingsError, match=r"none\.toml"):
        read_settings(Path("none.toml"))
