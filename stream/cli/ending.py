"""How a command ends that cannot do what it should: one line, and no second error of the output."""

from __future__ import annotations

import contextlib
import os
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


def give_up_output() -> None:
    """Forget what could not be written: Python would try again at its end, and complain."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
