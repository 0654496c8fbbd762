"""CRC-32C, Kafka's checksum of a record batch, by the instruction that x86 has for it.

aiokafka's function, which works with tables, is the twin that a test compares with; it is also what
other machines use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import llvmlite.binding as llvm
import numba
import numpy as np
from aiokafka.record.util import calc_crc32c
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from models.kernels.jit import kernel
from models.kernels.xxh3 import U8, read64

if TYPE_CHECKING:
    from collections.abc import Callable

_ONES: Final = 0xFFFFFFFF
_WORD: Final = 8


def _has_instruction() -> bool:
    """Whether what numba compiles for has it (SSE 4.2)."""
    told: str | None = numba.config.CPU_FEATURES  # type: ignore[attr-defined]
    if told is not None:
        return "+sse4.2" in told.split(",")
    return bool(llvm.get_host_cpu_features().get("sse4.2"))


def _instruction(name: str, state: types.Integer, data: types.Integer) -> Any:
    """What carries a checksum on over one more piece of data."""

    @intrinsic
    def step(_: Any, crc: Any, piece: Any) -> Any:  # noqa: ARG001  # numba counts arguments
        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            before, over = context.get_value_type(state), context.get_value_type(data)
            function = builder.module.globals.get(name) or ir.Function(
                builder.module, ir.FunctionType(before, (before, over)), name
            )
            return builder.call(function, arguments)

        return state(state, data), generate

    return step


_over_word = _instruction("llvm.x86.sse42.crc32.64.64", types.uint64, types.uint64)
_over_byte = _instruction("llvm.x86.sse42.crc32.32.8", types.uint32, types.uint8)


@kernel
def by_instruction(data: U8) -> Any:
    """Return the checksum of all of an array; only where there is the instruction."""
    crc, words = np.uint64(_ONES), len(data) // _WORD
    for i in range(words):
        crc = _over_word(crc, read64(data, _WORD * i))
    rest = np.uint32(crc)
    for i in range(_WORD * words, len(data)):
        rest = _over_byte(rest, data[i])
    return np.int64(rest ^ np.uint32(_ONES))


crc32c: Final[Callable[[U8], int]] = by_instruction if _has_instruction() else calc_crc32c
"""The checksum of all of an array."""
