"""docs/how-to/add-a-setting.md works: its steps on a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "add-a-setting.md").read_text(encoding="utf-8")
FIELD, RULE, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
DOCSTRING = '    """How a worker consumes, scores and commits."""\n'
IMPORTS = """import pytest

from stream.config.loading import load_settings
from stream.errors import SettingsError


"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    for package in ("schemas", "models", "stream"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    models = folder / "stream" / "config" / "settings.py"
    text = models.read_text(encoding="utf-8")
    assert text.count(DOCSTRING) == 1
    models.write_text(text.replace(DOCSTRING, f"{DOCSTRING}\n{FIELD}\n{RULE}"), encoding="utf-8")
    (folder / "test_title.py").write_text(IMPORTS + TEST, encoding="utf-8")
    return folder


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: text for key, text in os.environ.items() if "INTENTSTREAM_" not in key}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_show_has_the_toy_setting_with_its_source(copy):
    shown = run(
        copy, "stream.cli.main", "config", "show", INTENTSTREAM_WORKER__MAX_TITLE_CHARS="50"
    )
    assert shown.returncode == 0, shown.stderr
    line = "max_title_chars = 50  # environment, INTENTSTREAM_WORKER__MAX_TITLE_CHARS"
    assert line in shown.stdout.splitlines()


def test_check_knows_the_toy_settings_limits_and_name(copy):
    file = copy / "shop.toml"
    file.write_text("[worker]\nmax_title_chars = 0\nmax_titel_chars = 7\n", encoding="utf-8")
    found = run(copy, "stream.cli.main", "config", "check", str(file))
    assert found.returncode == 1
    limits, name = found.stderr.splitlines()
    assert limits.startswith(f"{file}:2: worker.max_title_chars: ")
    assert limits.endswith("allowed: whole number, at least 1 and at most 10000")
    assert name == (
        f"{file}:3: worker.max_titel_chars: unknown setting; did you mean worker.max_title_chars?"
    )


def test_check_applies_the_toy_settings_rule(copy):
    file = copy / "contradiction.toml"
    file.write_text("[worker]\nmax_event_bytes = 100\n", encoding="utf-8")
    found = run(copy, "stream.cli.main", "config", "check", str(file))
    assert found.returncode == 1
    assert "max_title_chars is above max_event_bytes" in found.stderr


def test_reference_describes_the_toy_setting(copy):
    done = run(copy, "stream.cli.main", "config", "reference", "--out", "settings.md")
    assert done.returncode == 0, done.stderr
    entry = """### `worker.max_title_chars`

A longer product title is cut there.

- Type: whole number
- Unit: characters
- Allowed: at least 1 and at most 10000
- Default: `200`
- Environment: `INTENTSTREAM_WORKER__MAX_TITLE_CHARS`
"""
    assert entry in (copy / "settings.md").read_text(encoding="utf-8")


def test_the_pages_own_test_passes(copy):
    done = run(copy, "pytest", "-q", "-p", "no:cacheprovider", "test_title.py")
    assert done.returncode == 0, done.stdout + done.stderr
