import os

import pytest

from stream.config.layers import NOT_SETTINGS, lines_of, read_environment
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.errors import SettingsError
from stream.faults import VARIABLE

LINKS_OF_KUBERNETES = {
    "_SERVICE_HOST": "10.96.0.17",
    "_SERVICE_PORT": "8600",
    "_SERVICE_PORT_HTTP": "8600",
    "_PORT": "tcp://10.96.0.17:8600",
    "_PORT_8600_TCP": "tcp://10.96.0.17:8600",
    "_PORT_8600_TCP_PROTO": "tcp",
    "_PORT_8600_TCP_PORT": "8600",
    "_PORT_8600_TCP_ADDR": "10.96.0.17",
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("INTENTSTREAM_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("INTENTSTREAM_WORKER__BATCHSIZE", "INTENTSTREAM_WORKER__BATCH_SIZE"),
        ("INTENTSTREAM_WORKER_BATCH_SIZE", "INTENTSTREAM_WORKER__BATCH_SIZE"),
        ("INTENTSTREAM_KAFKA_BOOTSTRAP_SERVERS", "INTENTSTREAM_KAFKA__BOOTSTRAP_SERVERS"),
        ("INTENTSTREAM_DATADIR", "INTENTSTREAM_DATA_DIR"),
        ("intentstream_worker__devise", "INTENTSTREAM_WORKER__DEVICE"),
        ("INTENTSTREAM_WORKER_HTTP_PORT", "INTENTSTREAM_WORKER__HTTP_PORT"),
    ],
)
def test_unknown_variable_is_refused_with_the_nearest(monkeypatch, name, near):
    monkeypatch.setenv(name, "8600")
    with pytest.raises(SettingsError, match=rf"{name}: .*unknown setting; did you mean {near}\?"):
        load_settings()


@pytest.mark.parametrize(
    "name",
    ["NONSENSE", "APP_ID__X", "WORKER__BATCH_SIZE__X", "WORKER__", "FAULTS", "SERVICE_NAME"],
)
def test_variable_like_no_setting_is_refused(monkeypatch, name):
    monkeypatch.setenv(f"INTENTSTREAM_{name}", "swordfish")
    with pytest.raises(SettingsError, match=rf"INTENTSTREAM_{name}: .*unknown setting") as caught:
        load_settings()
    assert "swordfish" not in str(caught.value)


def test_all_unknown_variables_are_named_at_once(monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_ONE", "1")
    monkeypatch.setenv("INTENTSTREAM_WORKER__TWO", "2")
    monkeypatch.setenv("INTENTSTREAM_WORKER__DEVICE", "tpu")
    with pytest.raises(SettingsError, match=r"_ONE: .*_WORKER__TWO: .*_WORKER__DEVICE: "):
        load_settings()


@pytest.mark.parametrize("service", ["", "_WORKER", "_KAFKA", "_WORKER__DEVICE"])
@pytest.mark.parametrize("address", ["10.96.0.17", "fd00::17"])
def test_service_links_of_kubernetes_are_left_alone(monkeypatch, service, address):
    for ending, text in LINKS_OF_KUBERNETES.items():
        monkeypatch.setenv(f"INTENTSTREAM{service}{ending}", text.replace("10.96.0.17", address))
    monkeypatch.setenv("INTENTSTREAM_APP_ID", "shop")
    assert load_settings() == Settings(app_id="shop")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("INTENTSTREAM_WORKER_SERVICE_HOST", "not an address"),
        ("INTENTSTREAM_WORKER_SERVICE_PORT", "http"),
    ],
)
def test_what_only_resembles_a_service_link_is_refused(monkeypatch, name, text):
    for ending, value in LINKS_OF_KUBERNETES.items():
        monkeypatch.setenv(f"INTENTSTREAM_WORKER{ending}", value)
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError, match=r"INTENTSTREAM_WORKER_PORT: .*unknown setting"):
        load_settings()


def test_another_variable_beside_service_links_is_refused(monkeypatch):
    for ending, value in LINKS_OF_KUBERNETES.items():
        monkeypatch.setenv(f"INTENTSTREAM_WORKER{ending}", value)
    monkeypatch.setenv("INTENTSTREAM_WORKER_HTTP_PORT", "8600")
    with pytest.raises(SettingsError, match=r"did you mean INTENTSTREAM_WORKER__HTTP_PORT\?"):
        load_settings()


def test_the_variable_of_injected_faults_is_no_setting(monkeypatch):
    assert {VARIABLE} == NOT_SETTINGS
    monkeypatch.setenv(VARIABLE, "after_commit:17:kill")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("WORKER", "not json"),
        ("TRAIN__INTENT", "purchase"),
        ("TRAIN__TASK_WEIGHTS", "purchase=2"),
        ("TRAIN__WAIT_EDGES_MS", "1d,7d"),
        ("TRAIN__INTENT", "[" * 5_000 + "]" * 5_000),
    ],
    ids=["section", "list", "table", "durations", "deep"],
)
def test_what_is_no_json_is_refused_with_an_example(monkeypatch, name, text):
    monkeypatch.setenv(f"INTENTSTREAM_{name}", text)
    monkeypatch.setenv("INTENTSTREAM_ELSE", "1")
    with pytest.raises(SettingsError, match=rf"_ELSE: .*_{name}: .*no JSON: write \[") as caught:
        load_settings()
    assert text not in str(caught.value)


def test_sections_lists_and_tables_are_read_as_json(monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_WORKER", '{"batch_size": 3, "device": "cuda"}')
    monkeypatch.setenv("INTENTSTREAM_WORKER__DEVICE", "cpu")
    monkeypatch.setenv("INTENTSTREAM_TRAIN__INTENT", '["purchase"]')
    monkeypatch.setenv("INTENTSTREAM_TRAIN__TASK_WEIGHTS__PURCHASE", "2")
    settings = load_settings()
    assert (settings.worker.batch_size, settings.worker.device) == (3, "cpu")
    assert settings.train.intent == ("purchase",)
    assert settings.train.task_weights == {"purchase": 2}
    layer = read_environment(Settings)
    assert layer.place(("worker", "batch_size")) == "INTENTSTREAM_WORKER"
    assert layer.place(("worker", "device")) == "INTENTSTREAM_WORKER__DEVICE"


def test_only_the_loader_reads_the_environment(monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_APP_ID", "shop")
    assert Settings().app_id == "intentstream"
    assert load_settings().app_id == "shop"


def test_lines_of_every_way_to_write_a_key():
    text = (
        '\n# a\napp_id = """\n[worker]\nx = 1\n"""\nchurn.raise_at = 0.5\r\n'
        "[train] # b\nintent = [\n  # c\n  'purchase',\n]\n\n[ 'state' ]\n\"ring\"=3\n"
    )
    lines = lines_of(text)
    assert lines["app_id",] == 3
    assert ("worker",) not in lines
    assert lines["churn", "raise_at"] == 7
    assert lines["train",] == 8
    assert lines["train", "intent"] == 9
    assert lines["state",] == 14
    assert lines["state", "ring"] == 15
