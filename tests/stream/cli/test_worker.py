import logging

import pytest
import structlog

from stream.cli.main import main
from stream.cli.worker import _assign
from stream.errors import SettingsError


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_any_setting_can_be_set():
    overrides = {"worker": {"device": "cpu"}}

    for assignment in ("churn.raise_at=0.6", "worker.emit = every", "app_id=shop"):
        _assign(overrides, assignment)

    assert overrides == {
        "worker": {"device": "cpu", "emit": "every"},
        "churn": {"raise_at": "0.6"},
        "app_id": "shop",
    }


@pytest.mark.parametrize("wrong", ["churn", "=5", "churn.=5", "app_id.x=5"])
def test_a_wrong_assignment_says_how_to_write_it(wrong):
    with pytest.raises(SettingsError, match="--set"):
        _assign({"app_id": "shop"}, wrong)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bootstrap-servers", "127.0.0.1:1"], "no Kafka broker answers at 127.0.0.1:1"),
        (["--set", "churn.nothing=1"], "churn.nothing"),
        (["--log-level", "loud"], "take one of debug"),
        (["--guarantee", "maybe"], "worker.guarantee"),
        (["--set", "kafka.sasl_password=hunter2"], "every user of this machine can read"),
        (["--set", "privacy.pseudonym_key=hunter2"], "privacy.pseudonym_key_file"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(arguments, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["worker", "--data-dir", str(tmp_path), *arguments])

    assert ended.value.code == 1
    said_in_all = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in said_in_all if "[info" not in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert "hunter2" not in lines[0]
