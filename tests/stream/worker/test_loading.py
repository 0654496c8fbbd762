"""A model that never opens, or takes the process with it, is refused: the worker goes on."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from models.errors import ArtifactError
from stream.worker.loading import DEATHS, deaths_remembered, in_bounded_time
from tests.patience import PATIENCE_S

DIES = """
import os, sys
from pathlib import Path
from stream.worker.loading import deaths_remembered
with deaths_remembered(Path(sys.argv[1]), "abc"):
    os._exit(9)
"""


def die(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES, folder], check=False, timeout=PATIENCE_S)
    assert done.returncode == 9


async def test_answer_and_errors_come_back() -> None:
    def fails() -> None:
        raise ArithmeticError("odd")

    assert await in_bounded_time(lambda: 7, PATIENCE_S) == 7
    with pytest.raises(ArithmeticError, match="odd"):
        await in_bounded_time(fails, PATIENCE_S)


async def test_what_never_ends_is_given_up() -> None:
    release = threading.Event()
    with pytest.raises(ArtifactError, match=r"not ready within 0\.05 s.*models\.load_limit_ms"):
        await in_bounded_time(release.wait, 0.05)
    # Its answer comes too late for anybody.
    release.set()
    assert await in_bounded_time(lambda: 7, PATIENCE_S) == 7


@pytest.mark.slow
def test_process_ends_though_a_model_is_being_opened() -> None:
    """The thread is nobody's to wait for, at the end of the process either."""
    code = (
        "import asyncio, threading\n"
        "from stream.worker.loading import in_bounded_time\n"
        "try: asyncio.run(in_bounded_time(threading.Event().wait, 0.05))\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, timeout=PATIENCE_S, capture_output=True, text=True)
    assert done.stdout == "ArtifactError\n"


@pytest.mark.slow
def test_model_that_ends_the_process_is_refused_in_the_end(tmp_path: Path) -> None:
    for _ in range(DEATHS):
        die(tmp_path)
    with (
        pytest.raises(ArtifactError, match=rf"{DEATHS} worker processes ended.*remove {tmp_path}"),
        deaths_remembered(tmp_path, "abc"),
    ):
        pytest.fail("it was opened again")
    with deaths_remembered(tmp_path, "another"):
        pass
    (tmp_path / "abc").unlink()
    with deaths_remembered(tmp_path, "abc"):
        pass


@pytest.mark.slow
def test_a_death_is_forgotten_once_it_opens(tmp_path: Path) -> None:
    for _ in range(DEATHS):
        die(tmp_path)
        with deaths_remembered(tmp_path, "abc"):
            assert (tmp_path / "abc").read_bytes() == b".."
        assert not (tmp_path / "abc").exists()


def test_refusal_is_no_death(tmp_path: Path) -> None:
    for _ in range(DEATHS + 1):
        with pytest.raises(ArtifactError, match="bad"), deaths_remembered(tmp_path, "abc"):
            raise ArtifactError("bad")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_several_processes_may_open_it_at_once(tmp_path: Path) -> None:
    with deaths_remembered(tmp_path, "abc"):
        for _ in range(DEATHS + 1):
            die(tmp_path)
    with deaths_remembered(tmp_path, "abc"):
        pass


def test_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with deaths_remembered(tmp_path / "file", "abc"):
        pass


async def test_loop_that_has_ended_is_left_alone() -> None:
    """The answer of a thread that outlives its loop goes nowhere."""
    release, gone = threading.Event(), threading.Event()

    def late() -> None:
        release.wait()
        gone.set()

    def run() -> None:
        with pytest.raises(ArtifactError):
            asyncio.run(in_bounded_time(late, 0.05))

    await asyncio.to_thread(run)
    release.set()
    assert gone.wait(PATIENCE_S)
