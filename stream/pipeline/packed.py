"""Messages that stay columns from the kernel that wrote them to the one that makes a batch of them.

An object of Python for each key and each value costs more than what is done with it. Few or odd
messages are pairs all the same, and become columns when they are sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream.kernels.batches import ABSENT
from stream.kernels.buffers import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.history import I64
    from models.kernels.xxh3 import U8

Message = tuple[bytes | None, bytes | None]
"""(key, value)."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """N messages; as an iterable, (key, value) of each. Nobody changes the columns."""

    keys: U8
    """One behind the other."""
    key_sizes: I64
    """[N] bytes of each, `ABSENT` for null."""
    values: U8
    value_sizes: I64

    @classmethod
    def of_ends(cls, keys: U8, key_ends: I64, values: U8, value_ends: I64) -> Packed:
        """Of columns as kernels write them: where each key and each value ends, none is null."""
        return cls(*_part(keys, key_ends), *_part(values, value_ends))

    @classmethod
    def of(cls, messages: Sequence[tuple[bytes | None, bytes | None]]) -> Packed:
        """Of pairs."""
        return cls(
            *_column([key for key, _ in messages]), *_column([value for _, value in messages])
        )

    def __len__(self) -> int:
        return len(self.key_sizes)

    def __iter__(self) -> Iterator[Message]:
        keys, values = _parts(self.keys, self.key_sizes), _parts(self.values, self.value_sizes)
        return zip(keys, values, strict=True)


class Messages:
    """Messages of one topic in order, some packed, some pairs; as an iterable, all as pairs."""

    def __init__(self) -> None:
        """Hold none."""
        self.parts: list[Packed | list[Message]] = []

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[Message]:
        for part in self.parts:
            yield from part

    def extend(self, messages: Messages | Packed | Iterable[Message]) -> None:
        """Add messages behind the others."""
        if isinstance(messages, Messages):
            for part in messages.parts:
                self.extend(part)
        elif isinstance(messages, Packed):
            self.parts.append(messages)
        elif self.parts and isinstance(last := self.parts[-1], list):
            last.extend(messages)
        else:
            self.parts.append(list(messages))

    def packed(self) -> list[Packed]:
        """All of them in columns, in order."""
        return [part if isinstance(part, Packed) else Packed.of(part) for part in self.parts]


def _read_only(column: U8) -> U8:
    """The column as one that cannot be written to: kernels are compiled for these alone."""
    view = column[:]
    view.flags.writeable = False
    return view


def _part(data: U8, ends: I64) -> tuple[U8, I64]:
    """The bytes up to the last end, and how many belong to each."""
    return _read_only(data[: ends[-1] if len(ends) else 0]), np.diff(ends, prepend=0)


def _column(parts: list[bytes | None]) -> tuple[U8, I64]:
    data, sizes = _part(*joined(parts))
    for i in np.flatnonzero(sizes == 0).tolist():
        if parts[i] is None:
            sizes[i] = ABSENT
    return data, sizes


def _parts(column: U8, sizes: I64) -> Iterator[bytes | None]:
    data, at = column.tobytes(), 0
    for size in sizes.tolist():
        if size == ABSENT:
            yield None
        else:
            yield data[at : at + size]
            at += size
