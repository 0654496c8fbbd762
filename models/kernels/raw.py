"""Bytes of an array by pointer, and code that is put into kernels as it is.

A kernel that hands an array on to another one counts references to it, and looks at the sign of
each index. A pointer costs neither.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from models.kernels.jit import kernel

inlined: Any = intrinsic
"""numba's, whose type says that callers name the context of typing too."""


@inlined
def bytes_at(typing: Any, array: Any, at: Any) -> Any:
    """A pointer to a byte of a contiguous array: `bytes_at(array, at)[i]` is byte at + i.

    It may be handed on and read and written as an array of bytes may, at no cost. The array itself
    must be an argument of the kernel that takes the pointer, which it then outlives.
    """
    del typing, at

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.gep(builder.bitcast(made.data, cgutils.voidptr_t), [arguments[1]])

    return types.CPointer(types.uint8)(array, types.intp), generate


@kernel
def bytes_of(array: Any) -> Any:
    """A pointer to the first byte of an array, as of `bytes_at`."""
    return bytes_at(array, 0)


@inlined
def write64(typing: Any, target: Any, at: Any, word: Any) -> Any:
    """Write 8 bytes behind a pointer to bytes, little-endian."""
    del typing, at, word

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        begin, at, word = arguments
        place = builder.gep(begin, [at])
        builder.store(word, builder.bitcast(place, word.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(target, types.intp, types.uint64), generate
