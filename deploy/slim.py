"""A lock file for machines without a GPU: without what torch never loads there.

torch's build in the package registry is linked to CUDA's libraries, and is not imported without
them where there is no GPU either. Some of what it asks for is loaded only when a GPU is used, and
can be left out. Hashes stay.

    python deploy/slim.py requirements/base.txt > slim.txt
    pip install --no-deps --require-hashes -r slim.txt
    pip install --no-deps .
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

LEFT_OUT: Final = (
    "cuda-bindings",
    "cuda-pathfinder",
    "cuda-toolkit",  # names the others, has no files
    "nvidia-cuda-cccl",
    "nvidia-cusolver",
    "nvidia-nvjitlink",
    "nvidia-nvtx",
    "triton",  # compiles for GPUs
)


def slim(lock: str) -> str:
    """A lock file's text without the entries of these packages."""
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    return "".join(each for each in entries if each.partition("==")[0] not in LEFT_OUT)


if __name__ == "__main__":
    if len(sys.argv) != len(("slim.py", "lock")):
        sys.exit("usage: python deploy/slim.py requirements/base.txt > slim.txt")
    sys.stdout.write(slim(Path(sys.argv[1]).read_text(encoding="utf-8")))
