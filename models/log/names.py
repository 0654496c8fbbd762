"""Names of codes: histories hold hashes of items and categories, predictions tell names.

A log of any length is read with bounded memory. Once more codes are known than there is room for,
those seen least are forgotten, and half of the room is free again; what is forgotten and comes back
begins anew. What is frequent enough for a vocabulary is thus not lost ("lossy counting": Manku and
Motwani, VLDB 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

ROOM: Final = 131_072
"""Names that are kept, at most: about 20 MB of them."""

Row = tuple[int, int, str]
"""(code, times seen, name)."""


class Names:
    """Names of one kind of codes, of those seen most."""

    def __init__(self, rows: Iterable[Row] = (), room: int = ROOM) -> None:
        """Begin with what `rows` gave."""
        kept = sorted(rows)
        self._room = room
        self._codes = np.array([code for code, _, _ in kept], np.int64)
        self._seen = np.array([seen for _, seen, _ in kept], np.int64)
        self._names = {code: name for code, _, name in kept}

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, codes_N: NDArray[np.unsignedinteger], name_at: Callable[[int], str]) -> None:
        """Take note of N events in order of arrival.

        Args:
            codes_N: their codes; 0 is none.
            name_at: gives the name in an event, by its place. It is asked once for each new code:
                of names that share a code the first counts.
        """
        codes, first, seen = np.unique(codes_N, return_index=True, return_counts=True)
        codes = codes.astype(np.int64)
        known = self.known(codes)
        self._seen[np.searchsorted(self._codes, codes[known])] += seen[known]
        new = ~known & (codes != 0)
        if not new.any():
            return
        for code, place in zip(codes[new].tolist(), first[new].tolist(), strict=True):
            self._names[code] = name_at(place)
        self._codes = np.concatenate([self._codes, codes[new]])
        self._seen = np.concatenate([self._seen, seen[new]])
        kept = np.arange(len(self._codes))
        if len(kept) > self._room:
            kept = np.argsort(-self._seen, kind="stable")[: self._room // 2]
            for code in np.delete(self._codes, kept).tolist():
                del self._names[code]
        kept = kept[np.argsort(self._codes[kept])]
        self._codes, self._seen = self._codes[kept], self._seen[kept]

    def known(self, codes_V: I64) -> NDArray[np.bool_]:
        """Which codes have a name."""
        if not len(self):
            return np.zeros(len(codes_V), np.bool_)
        place = np.searchsorted(self._codes, codes_V)
        return np.asarray(self._codes[np.minimum(place, len(self) - 1)] == codes_V)

    def of(self, codes_V: Iterable[int]) -> tuple[str, ...]:
        """The names of codes that are known."""
        return tuple(self._names[code] for code in codes_V)

    def rows(self) -> list[Row]:
        """All that is known, to begin with elsewhere."""
        pairs = zip(self._codes.tolist(), self._seen.tolist(), strict=True)
        return [(code, seen, self._names[code]) for code, seen in pairs]


Catalogue = Mapping[str, Names]
"""What is ranked -> the names of its codes."""


def catalogue(whats: Iterable[str]) -> dict[str, Names]:
    """No names yet of these things."""
    return {what: Names() for what in whats}
