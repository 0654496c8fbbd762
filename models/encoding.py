"""Events as the wire has them -> the numbers that a history keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from models.history import AMOUNT_UNIT, EVENT_COLUMNS, ORDER_BITS, Events

if TYPE_CHECKING:
    from schemas.events import Event

Row = tuple[int, int, int, int, int, int, int, int, int]
"""(time, id, type, item, category, amount, order, quantity, discount) of one event, as in
``Events``."""


def hash64(text: str) -> int:
    """xxh3-64 of the UTF-8 text, never 0 (an empty slot); the same on every machine."""
    return xxhash.xxh3_64_intdigest(text.encode()) or 1


def item_code(item_id: str | None) -> int:
    """1 .. 2**32 - 1 for an item, 0 for none."""
    return 0 if item_id is None else (xxhash.xxh3_64_intdigest(item_id.encode()) & 0xFFFFFFFF) or 1


def category_code(category_id: str | None) -> int:
    """1 .. 65535 for a category, 0 for none."""
    return (
        0 if category_id is None else (xxhash.xxh3_64_intdigest(category_id.encode()) & 0xFFFF) or 1
    )


def order_code(order_id: str | None) -> int:
    """1 .. 2**30 - 1 for an order id, 0 for none."""
    if order_id is None:
        return 0
    return (xxhash.xxh3_64_intdigest(order_id.encode()) & ORDER_BITS) or 1


def encode_event(event: Event) -> Row:
    """One event as a row of ``Events``."""
    price, quantity = event.price, event.quantity or 1
    amount = 0 if price is None else round(price * quantity * AMOUNT_UNIT)
    return (
        event.event_time,
        hash64(event.event_id),
        event.code,
        item_code(event.item_id),
        category_code(event.category_id),
        amount,
        order_code(event.order_id),
        quantity,
        round((event.order_discount or 0) * AMOUNT_UNIT),
    )


def columns(rows: list[Row]) -> Events:
    """N rows as columns."""
    kinds = list(EVENT_COLUMNS.values())
    values = zip(*rows, strict=True) if rows else ((),) * len(kinds)
    return Events(*(np.array(v, kind) for v, kind in zip(values, kinds, strict=True)))
