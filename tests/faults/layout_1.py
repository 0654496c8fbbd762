"""The worker, with records as they were in layout 1: the old release in a rolling upgrade."""

from __future__ import annotations

import numpy as np

from models.history import ENTRY
from stream.cli.main import main
from stream.errors import StateLayoutError
from stream.pipeline import layout, state


def packed(self, table, rows, rebuilt=0):
    del rebuilt
    used = np.minimum(table.view(self.dtype)["n"][rows, 0], self.ring).tolist()
    return [
        table[row, : self.fixed + count * ENTRY.itemsize].tobytes()
        for row, count in zip(rows.tolist(), used, strict=True)
    ]


def unpack(self, keys, values, table, rows):
    for key, value, row in zip(keys, values, rows.tolist(), strict=True):
        if value[0] != 1:
            raise StateLayoutError(f"record {key!r} has layout {value[0]}: run a later release")
        table[row, : len(value)] = np.frombuffer(value, np.uint8)


layout.LAYOUT_VERSION = state.LAYOUT_VERSION = 1
layout.Layout.packed, layout.Layout.unpack = packed, unpack

if __name__ == "__main__":
    main()
