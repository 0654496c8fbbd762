"""Byte strings <-> one array of them all, one behind the other: what kernels read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from models.history import I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def gathered(data: U8, begins: I64, ends: I64) -> U8:
    """Parts of an array, one behind the other in one of their own."""
    out = np.empty(int((ends - begins).sum()), np.uint8)
    _gather(data, begins, ends, out)
    return out


def _copier() -> Any:
    """What copies bytes; in a loop numba looks at the sign of each index, which takes longer."""

    @intrinsic
    def copy(_: Any, out: Any, at: Any, data: Any, begin: Any, size: Any) -> Any:  # noqa: ARG001  # numba counts arguments
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            to_array, from_array = (
                context.make_array(signature.args[i])(context, builder, arguments[i])
                for i in (0, 2)
            )
            to = builder.gep(to_array.data, [arguments[1]])
            source = builder.gep(from_array.data, [arguments[3]])
            cgutils.raw_memcpy(builder, to, source, arguments[4], 1)
            return context.get_dummy_value()

        return types.void(out, types.intp, data, types.intp, types.intp), generate

    return copy


_copy = _copier()


@kernel
def put_bytes(out: U8, at: int, data: U8, begin: int, end: int) -> int:
    """Copy `data[begin:end]`, of another array, to `out[at:]`; where it ends there."""
    _copy(out, at, data, begin, end - begin)
    return at + end - begin


@kernel
def _gather(data: U8, begins: I64, ends: I64, out: U8) -> None:
    at = 0
    for i in range(len(ends)):
        at = put_bytes(out, at, data, begins[i], ends[i])
