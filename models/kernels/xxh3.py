"""xxh3-64 without a seed, of bytes that lie in an array.

After the specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md). The twin is the `xxhash`
package, which wants an object of Python for each text.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from models.kernels.jit import kernel
from models.kernels.raw import inlined

U8 = NDArray[np.uint8]
U64 = np.uint64
Lanes = tuple[U64, U64, U64, U64, U64, U64, U64, U64]

_SECRET: Final = np.frombuffer(
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
        "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
        "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
        "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
        "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
        "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
    ),
    np.uint8,
).copy()
_P32_1: Final = U64(0x9E3779B1)
_P32_2: Final = U64(0x85EBCA77)
_P32_3: Final = U64(0xC2B2AE3D)
_P64_1: Final = U64(0x9E3779B185EBCA87)
_P64_2: Final = U64(0xC2B2AE3D27D4EB4F)
_P64_3: Final = U64(0x165667B19E3779F9)
_P64_4: Final = U64(0x85EBCA77C2B2AE63)
_P64_5: Final = U64(0x27D4EB2F165667C5)
_MX1: Final = U64(0x165667919E3779F9)
_MX2: Final = U64(0x9FB21C651E98DF25)
_LOW: Final = U64(0xFFFFFFFF)
_BLOCK: Final = 1024
_STRIPE: Final = 64
_LAST_STRIPE_SECRET: Final = 121
_MERGE_SECRET: Final = 11


def _loader(kind: types.Integer) -> Any:
    """What reads an integer at any byte of an array, or behind a pointer to bytes.

    numba has aligned elements only.
    """

    @inlined
    def load(_: Any, data: Any, at: Any) -> Any:  # noqa: ARG001  # numba counts arguments
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            begin = arguments[0]
            if isinstance(signature.args[0], types.Array):
                begin = context.make_array(signature.args[0])(context, builder, begin).data
            at_byte = builder.gep(begin, [arguments[1]])
            word = builder.bitcast(at_byte, context.get_value_type(kind).as_pointer())
            return builder.load(word, align=1)

        return kind(data, types.intp), generate

    return load


_load32, _load64 = _loader(types.uint32), _loader(types.uint64)


@kernel
def _read32(data: U8, at: int) -> U64:
    return U64(_load32(data, at))


@kernel
def read64(data: U8, at: int) -> U64:
    """8 bytes, little-endian."""
    return U64(_load64(data, at))


@inlined
def _fold(_: Any, a: Any, b: Any) -> Any:
    """The upper half of a product of 128 bits xor its lower half."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half = context.get_value_type(signature.return_type)
        wide = type(half)(128)
        product = builder.mul(*(builder.zext(each, wide) for each in arguments))
        upper = builder.lshr(product, wide(64))
        return builder.xor(builder.trunc(product, half), builder.trunc(upper, half))

    del a, b
    return types.uint64(types.uint64, types.uint64), generate


@kernel
def swapped(x: U64) -> U64:
    """The bytes in the other order."""
    x = ((x & U64(0x00FF00FF00FF00FF)) << U64(8)) | ((x >> U64(8)) & U64(0x00FF00FF00FF00FF))
    x = ((x & U64(0x0000FFFF0000FFFF)) << U64(16)) | ((x >> U64(16)) & U64(0x0000FFFF0000FFFF))
    return (x << U64(32)) | (x >> U64(32))


@kernel
def _avalanche(h: U64) -> U64:
    h = (h ^ (h >> U64(37))) * _MX1
    return h ^ (h >> U64(32))


@kernel
def _avalanche64(h: U64) -> U64:
    h = (h ^ (h >> U64(33))) * _P64_2
    h = (h ^ (h >> U64(29))) * _P64_3
    return h ^ (h >> U64(32))


@kernel
def _mix(data: U8, at: int, secret: int) -> U64:
    a = read64(data, at) ^ read64(_SECRET, secret)
    b = read64(data, at + 8) ^ read64(_SECRET, secret + 8)
    return U64(_fold(a, b))


@kernel
def _up_to_16(data: U8, start: int, length: int) -> U64:
    size = U64(length)
    if length > 8:
        low = read64(data, start) ^ read64(_SECRET, 24) ^ read64(_SECRET, 32)
        high = read64(data, start + length - 8) ^ read64(_SECRET, 40) ^ read64(_SECRET, 48)
        return _avalanche(size + swapped(low) + high + _fold(low, high))
    if length >= 4:
        joined = _read32(data, start + length - 4) + (_read32(data, start) << U64(32))
        h = joined ^ read64(_SECRET, 8) ^ read64(_SECRET, 16)
        h ^= ((h << U64(49)) | (h >> U64(15))) ^ ((h << U64(24)) | (h >> U64(40)))
        h = h * _MX2
        h = (h ^ ((h >> U64(35)) + size)) * _MX2
        return h ^ (h >> U64(28))
    if length > 0:
        joined = (
            (U64(data[start]) << U64(16))
            | (U64(data[start + (length >> 1)]) << U64(24))
            | U64(data[start + length - 1])
            | (size << U64(8))
        )
        return _avalanche64(joined ^ _read32(_SECRET, 0) ^ _read32(_SECRET, 4))
    return _avalanche64(read64(_SECRET, 56) ^ read64(_SECRET, 64))


@kernel
def _up_to_240(data: U8, start: int, length: int) -> U64:
    acc = U64(length) * _P64_1
    end = start + length
    if length <= 128:
        for i in range((length - 1) // 32, -1, -1):
            acc += _mix(data, start + 16 * i, 32 * i)
            acc += _mix(data, end - 16 * (i + 1), 32 * i + 16)
        return _avalanche(acc)
    for i in range(8):
        acc += _mix(data, start + 16 * i, 16 * i)
    acc = _avalanche(acc)
    for i in range(8, length // 16):
        acc += _mix(data, start + 16 * i, 16 * (i - 8) + 3)
    return _avalanche(acc + _mix(data, end - 16, 119))


@kernel
def _step(data: U8, at: int, secret: int) -> tuple[U64, U64]:
    """(value, product) of 8 bytes: the one goes to the other lane, the second to its own."""
    value = read64(data, at)
    key = value ^ read64(_SECRET, secret)
    return value, (key & _LOW) * (key >> U64(32))


@kernel
def _stripe(data: U8, at: int, secret: int, lanes: Lanes) -> Lanes:
    v0, p0 = _step(data, at, secret)
    v1, p1 = _step(data, at + 8, secret + 8)
    v2, p2 = _step(data, at + 16, secret + 16)
    v3, p3 = _step(data, at + 24, secret + 24)
    v4, p4 = _step(data, at + 32, secret + 32)
    v5, p5 = _step(data, at + 40, secret + 40)
    v6, p6 = _step(data, at + 48, secret + 48)
    v7, p7 = _step(data, at + 56, secret + 56)
    a, b, c, d, e, f, g, h = lanes
    return (
        a + p0 + v1,
        b + p1 + v0,
        c + p2 + v3,
        d + p3 + v2,
        e + p4 + v5,
        f + p5 + v4,
        g + p6 + v7,
        h + p7 + v6,
    )


@kernel
def _scramble(lane: U64, secret: int) -> U64:
    return (lane ^ (lane >> U64(47)) ^ read64(_SECRET, secret)) * _P32_1


@kernel
def _merge(a: U64, b: U64, secret: int) -> U64:
    return U64(_fold(a ^ read64(_SECRET, secret), b ^ read64(_SECRET, secret + 8)))


@kernel
def _long(data: U8, start: int, length: int) -> U64:
    lanes = (_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1)
    blocks = (length - 1) // _BLOCK
    for block in range(blocks):
        for n in range(16):
            lanes = _stripe(data, start + block * _BLOCK + n * _STRIPE, 8 * n, lanes)
        a, b, c, d, e, f, g, h = lanes
        lanes = (
            _scramble(a, 128),
            _scramble(b, 136),
            _scramble(c, 144),
            _scramble(d, 152),
            _scramble(e, 160),
            _scramble(f, 168),
            _scramble(g, 176),
            _scramble(h, 184),
        )
    rest = start + blocks * _BLOCK
    for n in range((length - 1 - blocks * _BLOCK) // _STRIPE):
        lanes = _stripe(data, rest + n * _STRIPE, 8 * n, lanes)
    lanes = _stripe(data, start + length - _STRIPE, _LAST_STRIPE_SECRET, lanes)
    a, b, c, d, e, f, g, h = lanes
    acc = U64(length) * _P64_1 + _merge(a, b, _MERGE_SECRET) + _merge(c, d, _MERGE_SECRET + 16)
    acc += _merge(e, f, _MERGE_SECRET + 32) + _merge(g, h, _MERGE_SECRET + 48)
    return _avalanche(acc)


@kernel
def xxh3_64(data: U8, start: int, length: int) -> U64:
    """The hash of ``data[start : start + length]``."""
    if length <= 16:
        return _up_to_16(data, start, length)
    if length <= 240:
        return _up_to_240(data, start, length)
    return _long(data, start, length)
