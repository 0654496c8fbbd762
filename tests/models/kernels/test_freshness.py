"""What a kernel calls and names is part of it: a change there must not go unnoticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CALLEE = """
from models.kernels.jit import kernel
from numbers_of_it import FACTOR

@kernel
def times(x):
    return {expression}
"""
CALLER = """
from callee import times
from models.kernels.jit import kernel

@kernel
def twice(x):
    return once_more(x)

@kernel
def once_more(x):
    return 2 * times(x)

print(twice(5), sum(twice.stats.cache_hits.values()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "numbers_of_it.py").write_text("FACTOR = 3\n")
    (tmp_path / "callee.py").write_text(CALLEE.format(expression="FACTOR * x"))
    (tmp_path / "caller.py").write_text(CALLER)
    return tmp_path


def run(folder: Path) -> str:
    path = os.pathsep.join([str(folder), str(Path.cwd())])
    return subprocess.run(
        [sys.executable, "-c", "import caller"],
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_a_kernel_is_compiled_anew_when_what_it_is_made_of_changes(folder):
    assert run(folder) == "30 0"
    assert run(folder) == "30 1", "kept"
    (folder / "callee.py").write_text(CALLEE.format(expression="FACTOR + x"))
    assert run(folder) == "16 0"
    (folder / "numbers_of_it.py").write_text("FACTOR = 7\n")
    assert run(folder) == "24 0"
