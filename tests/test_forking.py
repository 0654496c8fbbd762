"""Forks of a prepared process are programs like any other."""

import os
import signal
import subprocess
import sys

import pytest

from tests.forking import Forked

pytestmark = pytest.mark.slow


def say():
    sys.stdout.write(f"arguments {sys.argv[1:]} {os.environ.get('WHO')}\n")
    sys.stdout.flush()
    if "wait" in sys.argv:
        signal.pause()
    if "fail" in sys.argv:
        raise LookupError("as asked")
    sys.exit(3)


@pytest.fixture
def start(tmp_path):
    started = []

    def forked(*arguments):
        environment = {**os.environ, "WHO": "me"}
        log = tmp_path / "log"
        started.append(Forked("tests.test_forking:say", arguments, environment, log))
        return started[-1], log

    yield forked
    for process in started:
        process.kill()


@pytest.mark.full
def test_it_has_its_arguments_environment_log_and_exit_status(start):
    process, log = start("a", "b")
    assert process.wait(60) == process.poll() == 3
    assert log.read_text() == "arguments ['a', 'b'] me\n"


def test_what_it_raises_is_in_its_log(start):
    process, log = start("fail")
    assert process.wait(60) == 1
    assert "LookupError: as asked" in log.read_text()


def test_it_can_be_killed_and_waited_for(start):
    process, _ = start("wait")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # nobody is there any more
