"""The lock file for machines without a GPU is the other one, with some packages left out."""

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deployed import program

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "deploy" / "slim.py"


@pytest.fixture(scope="module")
def slim():
    return program("slim.py")


def entries(text: str) -> dict[str, str]:
    """Package -> what a lock file says of it."""
    parts = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    return {part.partition("==")[0]: part for part in parts if "==" in part}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "train", "outcomes"])
def test_a_slim_lock_lacks_what_is_left_out_and_nothing_else(slim, name):
    path = ROOT / "requirements" / f"{name}.txt"
    whole = entries(path.read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)], capture_output=True, text=True, check=True
    )
    kept = entries(done.stdout)
    assert set(whole) - set(kept) == set(slim.LEFT_OUT)
    assert all(whole[package] == text for package, text in kept.items())
    assert done.stdout.count("--hash=sha256:") > len(kept)


def test_torch_still_asks_for_what_is_left_out(slim):
    # A name that is asked for no more is left out for nothing; what torch links to may change too:
    # docs/install.md says how it was tried.
    asked = [Requirement(text) for text in requires("torch") or ()]
    named = {canonicalize_name(each.name) for each in asked}
    named |= {canonicalize_name(Requirement(text).name) for text in requires("cuda-toolkit") or ()}
    named |= {canonicalize_name(Requirement(text).name) for text in requires("cuda-bindings") or ()}
    assert set(slim.LEFT_OUT) - named == set()
