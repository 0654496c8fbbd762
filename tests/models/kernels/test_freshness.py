"""What a kernel calls and names is part of it: a change there must not go unnoticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

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


@pytest.mark.full
def test_a_kernel_is_compiled_anew_when_what_it_is_made_of_changes(folder):
    assert run(folder) == "30 0"
    assert run(folder) == "30 1", "kept"
    (folder / "callee.py").write_text(CALLEE.format(expression="FACTOR + x"))
    assert run(folder) == "16 0"
    (folder / "numbers_of_it.py").write_text("FACTOR = 7\n")
    assert run(folder) == "24 0"


def test_two_versions_that_save_at_once_keep_apart(folder: Path) -> None:
    """A process that has read the index before the other version saves finds its own code."""
    assert run(folder) == "30 0"
    cache = folder / "__pycache__"
    read = {path: path.read_bytes() for path in cache.glob("*.nbi")}
    assert read
    (folder / "callee.py").write_text(CALLEE.format(expression="FACTOR + x"))
    assert run(folder) == "16 0"
    (folder / "callee.py").write_text(CALLEE.format(expression="FACTOR * x"))
    for path, index in read.items():
        path.write_bytes(index)
    assert run(folder) == "30 1"


def test_of_many_versions_the_newest_are_kept(folder: Path) -> None:
    assert run(folder) == "30 0"
    cache = folder / "__pycache__"
    (index,) = cache.glob("caller.twice-*.nbi")
    (code,) = cache.glob("caller.twice-*.nbc")
    stamp = index.name.split(".")[1].rpartition("-")[2]
    for age in range(1, 12):
        for path in (index, code):
            older = path.with_name(path.name.replace(stamp, f"{age:016x}"))
            older.write_bytes(path.read_bytes())
            os.utime(older, (age, age))
    assert run(folder) == "30 1"
    kept = {path.name.split(".")[1].rpartition("-")[2] for path in cache.glob("caller.twice-*")}
    assert kept == {stamp, *(f"{age:016x}" for age in range(5, 12))}
    assert len(list(cache.glob("caller.twice-*"))) == 16


RECORD = """
from typing import NamedTuple

class Pair(NamedTuple):
    {first}: int
    {second}: int
"""
TAKES_RECORD = """
from __future__ import annotations

from typing import TYPE_CHECKING

from models.kernels.jit import kernel

if TYPE_CHECKING:
    from pair import Pair

@kernel
def left_of(pair: Pair) -> int:
    return pair.left
"""
MAKES_RECORD = """
from pair import Pair
from takes import left_of

print(left_of(Pair(left=1, right=2)), sum(left_of.stats.cache_hits.values()))
"""


def test_fields_of_a_record_in_another_order_are_no_hit(tmp_path: Path) -> None:
    """Otherwise a kernel reads one array as another after an update, and beyond its end."""
    (tmp_path / "takes.py").write_text(TAKES_RECORD)
    (tmp_path / "caller.py").write_text(MAKES_RECORD)
    (tmp_path / "pair.py").write_text(RECORD.format(first="left", second="right"))
    assert run(tmp_path) == "1 0"
    assert run(tmp_path) == "1 1", "kept"
    (tmp_path / "pair.py").write_text(RECORD.format(first="right", second="left"))
    assert run(tmp_path) == "1 0"


LAYOUT = """
import numpy as np

ROW = np.dtype([("{first}", "<i8"), ("{second}", "<i8")])
"""
TAKES_LAYOUT = """
from layouts.rows import ROW
from models.kernels.jit import kernel
from models.kernels.places import record_at

row_at = record_at(ROW)

@kernel
def left_of(address):
    return row_at(address).left
"""
MAKES_LAYOUT = """
import numpy as np

from layouts.rows import ROW
from takes import left_of

rows = np.zeros(1, ROW)
rows["left"] = 1
print(left_of(rows.ctypes.data), sum(left_of.stats.cache_hits.values()))
"""


def test_a_record_of_another_layout_is_no_hit(tmp_path: Path) -> None:
    (tmp_path / "layouts").mkdir()
    (tmp_path / "takes.py").write_text(TAKES_LAYOUT)
    (tmp_path / "caller.py").write_text(MAKES_LAYOUT)
    layout = tmp_path / "layouts" / "rows.py"
    layout.write_text(LAYOUT.format(first="left", second="right"))
    assert run(tmp_path) == "1 0"
    assert run(tmp_path) == "1 1", "kept"
    layout.write_text(LAYOUT.format(first="right", second="left"))
    assert run(tmp_path) == "1 0"
