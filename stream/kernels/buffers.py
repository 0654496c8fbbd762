"""Byte strings <-> one array of them all, one behind the other: what kernels read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.history import I64
    from models.kernels.xxh3 import U8


def as_array(data: bytes) -> U8:
    """The bytes as an array; of none, an array of one, as NumPy takes no empty buffer."""
    return np.frombuffer(data or b"\0", np.uint8)


def joined(parts: Sequence[bytes | None]) -> tuple[U8, I64]:
    """All parts as one array, and where each ends; None is empty."""
    try:
        data = b"".join(parts)  # type: ignore[arg-type]
    except TypeError:
        parts = [part or b"" for part in parts]
        data = b"".join(parts)  # type: ignore[arg-type]
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))  # type: ignore[arg-type]
    return as_array(data), np.cumsum(lengths)


def cut(array: U8, ends: I64) -> list[bytes]:
    """The parts of an array, from its beginning on."""
    stops = ends.tolist()
    if not stops:
        return []
    data = array[: stops[-1]].tobytes()
    return [data[lo:hi] for lo, hi in zip([0, *stops[:-1]], stops, strict=True)]
