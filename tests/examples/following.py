"""A how-to page as a program: its titled blocks are edits, made on a copy of the project.

A block `python title="PATH"` is a new file. A block `diff title="PATH"` changes a file: its lines
without a plus are looked for, and its lines without a minus take their place.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("schemas", "models", "stream", "deploy", "tests", "docs")
BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """One titled block."""

    language: str
    path: str
    body: str

    def applied(self, text: str) -> str:
        """The file's text after a change; the place must be there exactly once."""
        lines = self.body.splitlines()
        old = "\n".join(line[1:] for line in lines if line[:1] != "+") + "\n"
        new = "\n".join(line[1:] for line in lines if line[:1] != "-") + "\n"
        assert text.count(old) == 1, f"{self.path}: {text.count(old)} places like\n{old}"
        return text.replace(old, new)


def edits_of(page: str) -> list[Edit]:
    """The edits of docs/how-to/PAGE, in its order."""
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    return [Edit(*found) for found in BLOCK.findall(text)]


def follow(page: str, folder: Path, *also: str) -> Path:
    """A copy of the project in which the page was followed.

    Folders that stay as they are become links, so that compiled kernels are found.

    Args:
        page: file of docs/how-to.
        folder: an empty folder.
        also: files and folders that commands of the page write.
    """
    edits = edits_of(page)
    assert edits, f"{page} has no titled block"
    touched = {*(edit.path for edit in edits), *also}
    for name in COPIED:
        _copy(Path(name), folder, touched)
    (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    for edit in edits:
        path = folder / edit.path
        if edit.language == "diff":
            text = edit.applied(path.read_text(encoding="utf-8"))
        else:
            assert not path.exists(), f"{edit.path} is there already"
            text = edit.body
        path.write_text(text, encoding="utf-8")
    return folder


def _copy(name: Path, folder: Path, touched: set[str]) -> None:
    source, target = ROOT / name, folder / name
    if source.is_dir() and any(path.startswith(f"{name.as_posix()}/") for path in touched):
        target.mkdir()
        for entry in source.iterdir():
            if entry.name != "__pycache__":
                _copy(name / entry.name, folder, touched)
    elif any(name.as_posix() == path or name.is_relative_to(path) for path in touched):
        if source.is_dir():
            target.mkdir()
            for entry in source.iterdir():
                _copy(name / entry.name, folder, touched)
        else:
            target.write_bytes(source.read_bytes())
    else:
        target.symlink_to(source)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the copy."""
    inherited = {key: text for key, text in os.environ.items() if "INTENTSTREAM_" not in key}
    return subprocess.run(
        [sys.executable, "-B", "-m", *words],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(folder), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )


def passed(folder: Path, *files: str) -> bool:
    """Whether tests pass in the copy; their output is the reason where they do not."""
    done = run(folder, "pytest", "-q", "-p", "no:cacheprovider", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    return True
