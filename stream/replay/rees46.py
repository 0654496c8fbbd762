"""REES46 "eCommerce behavior data from multi category store": one CSV per month.

`user_session` becomes the session id; brand and category path go to the free properties.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from schemas.events import CartAdd, CartRemove, Event, Purchase, View
from stream.replay.adapter import LineError, ParsedLine, milliseconds, price_of
from stream.replay.lines import check_header, read_table

_COLUMNS: Final = (
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
)
_TYPES: Final[dict[str, type[Event]]] = {
    "view": View,
    "cart": CartAdd,
    "remove_from_cart": CartRemove,
    "purchase": Purchase,
}


class Rees46:
    """The adapter. Prices have no currency in this dataset."""

    name = "rees46"

    def read(self, path: Path) -> Iterator[ParsedLine]:
        """Yield every data line of the file, in file order."""
        check_header(path, _COLUMNS)
        return read_table(path, len(_COLUMNS), _event, header=True)


def _event(line: int, fields: list[str]) -> Event:
    time, behaviour, item, category, path, brand, price, user, session = fields
    kind = _TYPES.get(behaviour)
    if kind is None:
        raise LineError("unknown event_type")
    free = {
        name: msgspec.Raw(msgspec.json.encode(value))
        for name, value in (("category_code", path), ("brand", brand))
        if value
    }
    return kind(
        event_id=f"rees46-{line}",
        user_id=user,
        event_time=milliseconds(time),
        session_id=session or None,
        item_id=item or None,
        category_id=category or None,
        price=price_of(price),
        properties=free or None,
    )
