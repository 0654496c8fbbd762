"""REES46 "eCommerce behavior data from multi category store": one CSV per month.

`user_session` becomes the session id; brand and category path go to the free properties.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from schemas.events import CartAdd, CartRemove, Event, Purchase, View
from stream.replay.adapter import AS_FOUND, LineError, ParsedLine, Wanted, identifier, user_of
from stream.replay.conventions import Cells, Conventions
from stream.replay.tables import Columns, fits, open_table, read_fields, read_table

_COLUMNS: Final[Columns] = {
    "event_time": (),
    "event_type": (),
    "product_id": (),
    "category_id": (),
    "category_code": (),
    "brand": (),
    "price": (),
    "user_id": (),
    "user_session": (),
}
_TYPES: Final[dict[str, type[Event]]] = {
    "view": View,
    "cart": CartAdd,
    "remove_from_cart": CartRemove,
    "purchase": Purchase,
}


class Rees46:
    """The adapter. Prices have no currency in this dataset."""

    name = "rees46"

    def fits(self, line: bytes) -> bool:
        """Whether a file that begins with this line may be one of this format."""
        return fits(line, _COLUMNS)

    def read(self, path: Path, wanted: Wanted = AS_FOUND) -> Iterator[ParsedLine]:
        """Yield every data line of the file, in file order."""
        table = open_table(path, _COLUMNS)

        def cells() -> Cells:
            return ((line, [fields[0]], [fields[6]]) for line, fields in read_fields(table))

        conventions = Conventions(path, wanted, cells)
        return read_table(table, partial(_event, conventions))


def _event(conventions: Conventions, line: int, fields: list[str]) -> Event:
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
        user_id=user_of(user),
        event_time=conventions.milliseconds(time),
        session_id=session or None,
        item_id=identifier(item),
        category_id=identifier(category),
        price=conventions.price(price),
        properties=free or None,
    )
