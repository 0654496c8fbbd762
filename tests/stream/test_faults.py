import asyncio
import os
import signal
import subprocess
import sys

import pytest

from stream import faults
from stream.errors import SettingsError
from stream.faults import InjectedFault, async_stage, parse, stage, stage_hook
from tests.patience import PATIENCE_S


def test_without_the_variable_nothing_happens():
    stage("after_commit")
    stage_hook("")("after_commit")


def test_a_fault_strikes_at_its_passage_only():
    passed = stage_hook("after_commit:2:raise,after_poll:1:raise")

    passed("after_commit")
    with pytest.raises(InjectedFault, match="passage 2 of after_commit"):
        passed("after_commit")
    passed("after_commit")
    with pytest.raises(InjectedFault):
        passed("after_poll")


@pytest.mark.parametrize("text", ["x", "after_commit", "nowhere:1:kill", "after_poll:0x:kill"])
def test_a_wrong_fault_is_refused(text):
    with pytest.raises(SettingsError, match="PLACE:PASSAGE:ACTION"):
        parse(text)


@pytest.mark.slow
@pytest.mark.parametrize(("action", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_signals_reach_the_process_itself(action, number):
    code = (
        f"from stream.faults import stage_hook; stage_hook('after_poll:1:{action}')('after_poll')"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        if number == signal.SIGKILL:
            assert child.wait(PATIENCE_S) == -signal.SIGKILL
        else:
            status = os.waitpid(child.pid, os.WUNTRACED)[1]
            assert os.WIFSTOPPED(status)
    finally:
        child.kill()
        child.wait()


async def test_a_place_may_be_left_or_never_passed(monkeypatch):
    monkeypatch.setattr(faults, "_passed", stage_hook("in_agent:2:leave,in_fetch:1:hang"))
    assert [stage("in_agent") for _ in range(3)] == [False, True, False]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(async_stage("in_fetch"), 0.05)
    assert not await async_stage("in_fetch")
