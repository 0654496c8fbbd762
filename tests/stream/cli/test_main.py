import re
import subprocess
import sys
import types

import pytest
import typer
from aiokafka.errors import KafkaConnectionError

from schemas.errors import IntentStreamError
from stream.cli import main as program
from stream.cli.main import command_modules, main


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def failing(monkeypatch):
    """A command that raises what the test puts into it."""
    module = types.ModuleType("failing")
    module.app = typer.Typer()
    module.error = None

    @module.app.command()
    def _command() -> None:
        raise module.error

    monkeypatch.setitem(sys.modules, "failing", module)
    monkeypatch.setattr(program, "command_modules", lambda: {"fail": ("failing", "Fail.")})
    return module


def test_help_names_every_command_with_its_description():
    shown = run("--help")
    assert shown.returncode == 0
    for name, (_, description) in command_modules().items():
        assert re.search(rf"\b{name}\b", shown.stdout)
        assert description.split()[0] in shown.stdout


@pytest.mark.parametrize("name", sorted(command_modules()))
def test_every_command_shows_its_help(name):
    shown = run(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"Usage: intentstream {name}" in shown.stdout


def test_descriptions_are_short_and_capitalised():
    for name, (module, description) in command_modules().items():
        assert module == f"stream.cli.{name.replace('-', '_')}"
        assert description[:1].isupper(), name
        assert "`" not in description.partition(" ")[0], name


@pytest.mark.parametrize("words", [["nonsense"], ["--nonsense"], ["broker", "nonsense"], []])
def test_wrong_usage_exits_2(words):
    done = run(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_our_errors_are_one_line_and_exit_1(failing, capsys):
    failing.error = IntentStreamError("topic x is\n  missing: create it")
    with pytest.raises(SystemExit, match="1"):
        main(["fail"])
    assert capsys.readouterr().err == "intentstream: topic x is missing: create it\n"


def test_errors_of_the_kafka_client_name_a_remedy(failing, capsys):
    failing.error = KafkaConnectionError("no node")
    with pytest.raises(SystemExit, match="1"):
        main(["fail"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no node" in said
    assert "intentstream broker status" in said


def test_other_errors_are_bugs_and_keep_their_traceback(failing):
    failing.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == "intentstream 0.1.0\n"
