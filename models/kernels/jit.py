"""How kernels are compiled: once per machine, kept on disk, without the GIL while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numba

from models.kernels.freshness import PLACES

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def kernel(function: F) -> F:
    """Compile at the first call, or take what an earlier process compiled.

    Where no folder can be written to (see NUMBA_CACHE_DIR), each process compiles for itself.
    """
    return _compiled(function, fastmath=False)


def part(function: F) -> F:
    """As `kernel`, but compiled into each kernel that calls it.

    A call hands on some fifty arrays, each of which is counted: that costs more than the work.
    """
    return _compiled(function, fastmath=False, inline="always")


def matrix_kernel(function: F) -> F:
    """As `kernel`, but products may be fused with sums, as matrix kernels do."""
    return _compiled(function, fastmath={"contract"})


def _compiled(function: F, **options: Any) -> F:
    options |= {"nogil": True, "error_model": "numpy"}
    config: Any = numba.config
    others, config.CACHE_LOCATOR_CLASSES = config.CACHE_LOCATOR_CLASSES, PLACES
    try:
        made: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no place for its cache
        made = numba.njit(**options)(function)
    finally:
        config.CACHE_LOCATOR_CLASSES = others
    return made
