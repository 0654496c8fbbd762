import errno
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest
import typer
from aiokafka.errors import KafkaConnectionError

from schemas.errors import IntentStreamError
from stream.cli import ending, program
from stream.cli.main import main
from stream.cli.program import command_modules

pytestmark = pytest.mark.slow


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


FULL = pathlib.Path("/dev/full")
NEVER = """
import sys
raise KeyboardInterrupt
"""


def start(*words: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream.cli.main", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["schemas", "check"], ["erase", "--help"], ["nonsense"]]
)
def test_full_disk_under_the_output_is_one_line(words):
    with FULL.open("w") as full:
        done = start(*words, stdout=full)
    assert "Traceback" not in done.stderr
    if words == ["nonsense"]:
        assert done.returncode == 2
        return
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "intentstream: cannot write or read the output: No space left on device"


def test_full_disk_under_both_outputs_is_an_exit_status():
    command = [sys.executable, "-m", "stream.cli.main", "--help"]
    with FULL.open("w") as full:
        assert subprocess.run(command, stdout=full, stderr=full, check=False).returncode == 1


def test_closed_output_is_no_traceback():
    done = start("--version", preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_reader_that_has_seen_enough_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = start("--help", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("module", ["typer", "msgspec"])
def test_interruption_during_imports_is_no_traceback(tmp_path, module):
    (tmp_path / f"{module}.py").write_text(NEVER)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = start("status", "--json", env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stderr.strip()) == (130, "")


def test_interruption_of_a_command_is_no_traceback(failing, capsys):
    failing.error = KeyboardInterrupt()
    with pytest.raises(SystemExit) as ended:
        main(["fail"])
    assert (ended.value.code, capsys.readouterr().err) == (130, "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out.json"), "out.json: No space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the output: Disk quota exceeded"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file", "no/x"), "no/x: No such file"),
    ],
)
def test_file_that_cannot_be_written_is_one_line(failing, capsys, error, said, monkeypatch):
    monkeypatch.setattr(ending, "give_up_output", lambda: None)
    failing.error = error
    with pytest.raises(SystemExit) as ended:
        main(["fail"])
    assert ended.value.code == 1
    assert said in capsys.readouterr().err


def test_other_errors_of_the_system_are_bugs(failing):
    failing.error = OSError(errno.EBADF, "Bad file descriptor")
    with pytest.raises(OSError, match="Bad file"):
        main(["fail"])
