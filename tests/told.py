"""What a product record says, in the oracle's terms."""

from __future__ import annotations

import numpy as np

from models.history import HISTORY, chronological

NAMES = (
    "n",
    "first_time",
    "last_time",
    "last_id",
    "session_start",
    "first_purchase",
    "last_purchase",
    "evicted_time",
    "evicted_purchase",
    "spend",
    "discount",
    "orders",
    "last_order",
    "sessions",
    "overflow",
)


def told(record: np.void) -> dict[str, object]:
    out: dict[str, object] = {name: int(record[name]) for name in NAMES}
    out["counts"] = [int(c) for c in record["counts"]]
    fields = "time id item session_age category type flags order quantity discount"
    ring = chronological(record)
    ring["flags"] &= ~np.uint8(HISTORY)  # how it came, not what it is
    out["ring"] = [tuple(int(e[f]) for f in fields.split()) for e in ring]
    return out
