"""Memory that is free goes back to the system while a large log is taken in."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return freed pages; glibc keeps those between pages in use until it is asked to.

    Does nothing where the C library is another one.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
