"""Where the product uses private attributes of libraries, as ruff finds them, and who tests it."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def accesses() -> list[Path]:
    """The file of each access, with or without a comment that allows it.

    From the command line: `python -m tests.private` counts them.
    """
    ruff = Path(sys.executable).with_name("ruff")
    asked = ["--isolated", "--select", "SLF001", "--ignore-noqa", "--output-format", "json"]
    done = subprocess.run(
        [str(ruff), "check", *asked, "schemas", "models", "stream"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return [Path(each["filename"]) for each in json.loads(done.stdout)]


def tried(names: Iterable[str], tests: Path) -> set[str]:
    """Those of the names after which a test of the file is named, and which it calls."""
    tree = ast.parse(tests.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.unparse(node)
            found |= {
                name
                for name in names
                if node.name.startswith(f"test_{name}") and f"private.{name}(" in text
            }
    return found


if __name__ == "__main__":
    found = accesses()
    for path in sorted(set(found)):
        print(f"{found.count(path):3} {path.relative_to(ROOT)}")  # noqa: T201
    print(f"{len(found):3} in {len(set(found))} modules")  # noqa: T201
