"""What an install takes on disk: a plain one, one for machines without a GPU, and each extra.

Adds up the files that installed packages list (their RECORD), following requirements through the
metadata from what pyproject.toml asks for. So it measures the versions that are installed here, and
needs an environment with everything in it (`make setup`).

    python deploy/sizes.py
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from slim import LEFT_OUT

ROOT = Path(__file__).parents[1]
CUDA = ("nvidia-", "cuda-", "triton")
"""How the names of packages begin that PyTorch's CPU build does not ask for."""
CUDA_FILES = re.compile(r"torch/lib/lib\w*(cuda|nvshmem)\w*\.so")
"""Files of torch itself that its CPU build does not have."""
EXTRAS = ("train", "outcomes", "evaluate", "explain", "dashboard", "local", "demo", "dev")


def packages(project: dict[str, Any], extra: str = "") -> dict[str, Distribution]:
    """Name -> what is installed for a plain install, or one with an extra."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in project["dependencies"]]
    if extra:
        waiting += _of_extra(project, extra)
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        for wanted in ("", *asked.extras):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError as error:
                raise SystemExit(f"{name} is not installed: run `make setup`") from error
            needs = [Requirement(text) for text in found[name].requires or ()]
            waiting += [n for n in needs if not n.marker or n.marker.evaluate({"extra": wanted})]
    return found


def size(package: Distribution, what: re.Pattern[str] = re.compile("")) -> int:
    """Bytes of a package's files of this name, without what Python compiles of them."""
    files = (f for f in package.files or () if f.suffix != ".pyc" and what.search(str(f)))
    paths = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file())


def _of_extra(project: dict[str, Any], extra: str) -> list[Requirement]:
    asked = [Requirement(text) for text in project["optional-dependencies"][extra]]
    own = [each for each in asked if each.name == project["name"]]
    inner = [found for each in own for name in each.extras for found in _of_extra(project, name)]
    return [each for each in asked if each.name != project["name"]] + inner


def main() -> None:
    """Print a table."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    plain = packages(project)
    sizes = {name: size(package) for name, package in plain.items()}
    kept = [sizes[name] for name in plain if name not in LEFT_OUT]
    bare = [sizes[name] for name in plain if not name.startswith(CUDA)]
    rows = [
        ("plain", len(plain), sum(sizes.values())),
        ("plain, slim.py", len(kept), sum(kept)),
        ("plain, nothing of CUDA", len(bare), sum(bare) - size(plain["torch"], CUDA_FILES)),
    ]
    for extra in EXTRAS:
        more = {name: size(p) for name, p in packages(project, extra).items() if name not in plain}
        rows.append((f"more with {extra}", len(more), sum(more.values())))
    for name, count, taken in rows:
        print(f"{name:32} {count:4} packages {taken / 1e6:9,.0f} MB")
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:12]:
        print(f"    {name:28} {sizes[name] / 1e6:9,.0f} MB")


if __name__ == "__main__":
    main()
