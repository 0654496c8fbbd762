import json
import os

import pytest

from stream.broker.folder import Folder
from stream.cli.main import main
from stream.cli.options import broker_folder
from stream.config.loading import load_settings
from stream.config.settings import Settings

FILE = """\
app_id = "shop"

[kafka]
bootstrap_servers = "file:1"
security_protocol = "SASL_SSL"
sasl_username = "u"
sasl_password = "hunter2"

[train]
mlflow_uri = "https://me:swordfish@mlflow.shop/x?access_token=opensesame&run=1"
intent = ["purchase"]
task_weights = {purchase = 2.0}

[worker]
commit_interval_ms = "2s"
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.upper().startswith("INTENTSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def run(capsys, *words, status=0):
    with pytest.raises(SystemExit) as ended:
        main(["config", *map(str, words)])
    out, err = capsys.readouterr()
    assert (ended.value.code or 0) == status, err
    return out if status == 0 else err


def test_show_says_where_each_setting_is_from(file, capsys, monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_WORKER__BATCH_SIZE", "7")
    lines = run(capsys, "show", "--config", file, "--bootstrap-servers", "cli:1").splitlines()
    assert f'app_id = "shop"  # file, {file}:1' in lines
    assert 'bootstrap_servers = "cli:1"  # command line' in lines
    assert "batch_size = 7  # environment, INTENTSTREAM_WORKER__BATCH_SIZE" in lines
    assert f"commit_interval_ms = 2000  # 2s; file, {file}:15" in lines
    assert 'device = "auto"  # default' in lines
    assert "# ssl_cafile is unset  # default" in lines


@pytest.mark.slow
def test_show_hides_secrets_wherever_they_are_from(file, capsys, monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_PRIVACY__PSEUDONYM_KEY", "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("INTENTSTREAM_WORKER__HTTP_TOKEN", "an-open-secret-of-the-test")
    for option in ([], ["--json"]):
        text = run(capsys, "show", "--config", file, *option)
        for secret in ("hunter2", "swordfish", "opensesame", "0123456789abcdef", "open-secret"):
            assert secret not in text
        assert "https://***@mlflow.shop/x?access_token=***&run=1" in text
    assert f"# sasl_password is set, and hidden  # file, {file}:7" in run(
        capsys, "show", "--config", file
    )


def test_what_show_prints_is_a_settings_file(tmp_path, capsys):
    # But for secrets, of which there is none here.
    written = FILE.replace("SASL_SSL", "SSL").replace("me:swordfish@", "").partition("sasl_user")
    plain = written[0] + written[2].partition("\n")[2].partition("\n")[2]
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(plain.replace("?access_token=opensesame&run=1", ""), encoding="utf-8")
    second.write_text(run(capsys, "show", "--config", first), encoding="utf-8")
    assert load_settings(second) == load_settings(first) != Settings()


def test_show_as_json_has_value_and_source_by_name(file, capsys):
    shown = json.loads(run(capsys, "show", "--config", file, "--json"))
    assert shown["worker.commit_interval_ms"] == {
        "value": 2000,
        "hidden": False,
        "source": "file",
        "place": f"{file}:15",
    }
    assert shown["kafka.sasl_password"] == {
        "value": None,
        "hidden": True,
        "source": "file",
        "place": f"{file}:7",
    }
    assert shown["churn.raise_at"] == {
        "value": 0.7,
        "hidden": False,
        "source": "default",
        "place": None,
    }
    assert shown["train.task_weights"]["value"] == {"purchase": 2.0}


def test_show_names_the_local_broker_that_was_found(tmp_path, capsys, monkeypatch):
    folder = Folder(broker_folder(load_settings(None, {"data_dir": tmp_path})))
    with folder.locked():
        remembered = folder.create(1)
    remembered.nodes[1].pid = 1
    folder.write(remembered)
    monkeypatch.setattr("stream.broker.process.is_alive", lambda pid, mark: pid == 1)
    shown = json.loads(run(capsys, "show", "--data-dir", tmp_path, "--json"))
    port = remembered.nodes[1].ports.client
    assert shown["kafka.bootstrap_servers"]["value"] == f"127.0.0.1:{port}"
    assert shown["kafka.bootstrap_servers"]["source"] == "local broker"
    assert shown["data_dir"]["source"] == "command line"


def test_show_of_wrong_settings_is_one_line(file, capsys, monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_WORKER__BATCH_SIZE", "many")
    text = run(capsys, "show", "--config", file, status=1)
    assert text.count("\n") == 1
    assert "INTENTSTREAM_WORKER__BATCH_SIZE: worker.batch_size: " in text


def test_check_accepts_a_right_file(file, capsys):
    assert run(capsys, "check", file) == f"{file} is right\n"


def test_check_names_everything_by_line(tmp_path, capsys):
    file = tmp_path / "bad.toml"
    file.write_text(
        'app_id = "a b"\n\n[worker]\n\nbatch_size = 0\ndevise = "cpu"\n'
        '[kafka]\nssl_keyfile = "k"\n[chrun]\nraise_at = 1\n'
    )
    lines = run(capsys, "check", file, status=1).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"{file}:{number}" for number in (1, 5, 6, 7, 9)
    ]
    assert "did you mean worker.device?" in lines[2]
    assert lines[3].endswith("kafka: ssl_keyfile needs ssl_certfile")
    assert "did you mean churn?" in lines[4]


def test_show_reads_a_pipe_once(tmp_path, capsys):
    read, write = os.pipe()
    os.write(write, b'app_id = "piped"\n')
    os.close(write)
    try:
        shown = run(capsys, "show", "--config", f"/dev/fd/{read}")
    finally:
        os.close(read)
    assert shown.startswith(f'app_id = "piped"  # file, /dev/fd/{read}:1\n')


def test_a_contradiction_is_said_of_its_file(file, capsys):
    file.write_text('[kafka]\nssl_keyfile = "k"\n', encoding="utf-8")
    text = run(capsys, "show", "--config", file, status=1)
    assert f"{file}:1: kafka: ssl_keyfile needs ssl_certfile" in text


@pytest.mark.slow
def test_check_is_about_the_file_alone_unless_asked(file, capsys, monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_KAFKA__SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("INTENTSTREAM_NONSENSE", "1")
    file.write_text(FILE.replace('sasl_password = "hunter2"\n', ""), encoding="utf-8")
    assert "needs sasl_username and sasl_password" in run(capsys, "check", file, status=1)
    text = run(capsys, "check", file, "--environment", status=1)
    assert text.splitlines() == [line for line in text.splitlines() if "NONSENSE" in line]
    monkeypatch.delenv("INTENTSTREAM_NONSENSE")
    run(capsys, "check", file, "--environment")


def test_check_names_a_file_that_is_no_toml(tmp_path, capsys):
    file = tmp_path / "bad.toml"
    file.write_text("[worker]\nbatch_size =\n")
    assert "bad.toml: Invalid value (at line 2" in run(capsys, "check", file, status=1)
    assert "cannot read the settings file" in run(capsys, "check", tmp_path / "no.toml", status=1)
