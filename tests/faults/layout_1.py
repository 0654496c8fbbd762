"""The worker, with records as they were in layout 1: the old release in a rolling upgrade."""

from __future__ import annotations

from stream import layout, state
from stream.cli.main import main
from stream.errors import StateLayoutError


def body(self: layout.Layout, key: bytes, value: bytes) -> bytes:
    if value[0] != 1:
        raise StateLayoutError(f"record {key!r} has layout {value[0]}: run a later release")
    return value


layout.LAYOUT_VERSION = state.LAYOUT_VERSION = 1
layout.Layout.body = body
state.seal = lambda unsealed: unsealed

if __name__ == "__main__":
    main()
