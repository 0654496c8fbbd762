"""The order of a user's events of one time; see `models.history.sort_key`."""

from __future__ import annotations

from typing import Any

from models.history import REFUND
from models.kernels.jit import kernel


@kernel
def comes_after(kind: Any, event_id: Any, other_kind: Any, other_id: Any) -> bool:
    """Whether an event comes after another one of the same time: refunds last, then by id hash."""
    refund = kind == REFUND
    if refund != (other_kind == REFUND):
        return bool(refund)
    return bool(event_id > other_id)
