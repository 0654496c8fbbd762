"""What a check of a contract compares, and how it says that something is not as it has to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.errors import ModelError

Subject = TypeVar("Subject")


class ContractBroken(ModelError):
    """A network does not do what the engine and the trainer rely on."""


def same_shape(what: str, found: Tensor, expected: tuple[int, ...]) -> None:
    """Check a shape.

    Raises:
        ContractBroken: it is another.
    """
    if tuple(found.shape) != expected:
        raise ContractBroken(f"{what}: shape {tuple(found.shape)}, expected {expected}")


def finite(what: str, found: Tensor) -> None:
    """Check that all numbers are finite.

    Raises:
        ContractBroken: one is not.
    """
    if not bool(torch.isfinite(found).all()):
        raise ContractBroken(f"{what}: numbers that are not finite")


def same_bits(what: str, found: Any, expected: Any) -> None:
    """Check that tensors, or arrays, are equal to the bit.

    Raises:
        ContractBroken: they are not.
    """
    if not np.array_equal(_array(found), _array(expected)):
        raise ContractBroken(f"{what}: not the same bits")


def close(what: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Check that no number differs by more than `tolerance`.

    Raises:
        ContractBroken: one does, or the shapes differ.
    """
    same_shape(what, found, tuple(expected.shape))
    worst = float((found - expected).detach().abs().max()) if found.numel() else 0.0
    if not worst <= tolerance:
        raise ContractBroken(f"{what}: they differ by {worst:.3g}, allowed {tolerance:.3g}")


def pass_all(checks: Iterable[Callable[[Subject], None]], fresh: Callable[[], Subject]) -> None:
    """Put a new subject through each check.

    Raises:
        ContractBroken: the first check that it does not pass, by name.
    """
    for check in checks:
        try:
            check(fresh())
        except ContractBroken as broken:
            raise ContractBroken(f"{check.__name__}: {broken}") from broken


def _array(numbers: Any) -> Any:
    return numbers.detach().numpy() if isinstance(numbers, Tensor) else numbers
