"""The one line on standard error with which a command ends that cannot do what it should."""

from __future__ import annotations

import contextlib
import sys
from typing import NoReturn


def fail(message: str) -> NoReturn:
    """Exit with 1 after one line on standard error."""
    tell(message)
    sys.exit(1)


def tell(message: str) -> None:
    """Write one line to standard error, if that can be written."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(f"intentstream: {' '.join(message.split())}\n")
        sys.stderr.flush()
