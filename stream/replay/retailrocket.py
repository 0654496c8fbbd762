"""RetailRocket `events.csv`: timestamp (ms), visitor, event, item, transaction.

A visitor is a browser, not a known customer; it is the only identity in the file, so it is both
the user and the anonymous id. Prices are not in this file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from schemas.events import CartAdd, Event, Purchase, View
from stream.replay.adapter import (
    AS_FOUND,
    LineError,
    ParsedLine,
    Wanted,
    identifier,
    integer,
    user_of,
)
from stream.replay.tables import Columns, fits, open_table, read_table

_COLUMNS: Final[Columns] = {
    "timestamp": (),
    "visitorid": (),
    "event": (),
    "itemid": (),
    "transactionid": (),
}
_TYPES: Final[dict[str, type[Event]]] = {
    "view": View,
    "addtocart": CartAdd,
    "transaction": Purchase,
}


class RetailRocket:
    """The adapter."""

    name = "retailrocket"

    def fits(self, line: bytes) -> bool:
        """Whether a file that begins with this line may be one of this format."""
        return fits(line, _COLUMNS)

    def read(self, path: Path, wanted: Wanted = AS_FOUND) -> Iterator[ParsedLine]:
        """Yield every data line of the file, in file order."""
        del wanted
        return read_table(open_table(path, _COLUMNS), _event)


def _event(line: int, fields: list[str]) -> Event:
    time, visitor, behaviour, item, transaction = fields
    kind = _TYPES.get(behaviour)
    if kind is None:
        raise LineError("unknown event")
    order = identifier(transaction)
    free = {"transaction_id": msgspec.Raw(msgspec.json.encode(order))}
    user = user_of(visitor)
    return kind(
        event_id=f"retailrocket-{line}",
        user_id=user,
        event_time=integer(time),
        anonymous_id=user,
        item_id=identifier(item),
        properties=free if order else None,
        order_id=order,
    )
