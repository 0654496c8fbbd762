"""The worker, with records as they were in layout 1: the old release in a rolling upgrade."""

from __future__ import annotations

import numpy as np

from models.history import LINE
from stream.cli.main import main
from stream.errors import StateLayoutError
from stream.pipeline import layout, state
from stream.pipeline.old_layouts import fill_from_old, old_dtype, old_row


def packed(self, table, rows, rebuilt=0, overflow=None):
    del rebuilt, overflow
    return [body(self, record) for record in table.view(self.dtype)[rows, 0]]


def body(self, record):
    dtype = old_dtype(self.ring, self.hidden)
    old = np.zeros(1, dtype)
    for name in set(dtype.names) - {"ring", "reserved"}:
        old[name] = record[name]
    for name in dtype["ring"].base.names:
        old["ring"][name] = record["ring"][name]
    old["ring"]["flags"] &= ~np.uint8(LINE)
    unused = self.ring - min(int(record["n"]), self.ring)
    return old.tobytes()[: dtype.itemsize - unused * dtype["ring"].base.itemsize]


def unpack(self, keys, values, table, rows):
    for key, value, row in zip(keys, values, rows.tolist(), strict=True):
        if value[0] != 1:
            raise StateLayoutError(f"record {key!r} has layout {value[0]}: run a later release")
        fill_from_old(table.view(self.dtype)[row, 0], old_row(value, self.ring, self.hidden))
    return {}


layout.LAYOUT_VERSION = state.LAYOUT_VERSION = 1
layout.Layout.packed, layout.Layout.unpack = packed, unpack

if __name__ == "__main__":
    main()
