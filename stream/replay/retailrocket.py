"""RetailRocket `events.csv`: timestamp (ms), visitor, event, item, transaction.

A visitor is a browser, not a known customer; it is the only identity in the file, so it is both
the user and the anonymous id. Prices are not in this file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from schemas.events import CartAdd, Event, Purchase, View
from stream.replay.adapter import LineError, ParsedLine, integer
from stream.replay.lines import check_header, read_table

_COLUMNS: Final = ("timestamp", "visitorid", "event", "itemid", "transactionid")
_TYPES: Final[dict[str, type[Event]]] = {
    "view": View,
    "addtocart": CartAdd,
    "transaction": Purchase,
}


class RetailRocket:
    """The adapter."""

    name = "retailrocket"

    def read(self, path: Path) -> Iterator[ParsedLine]:
        """Yield every data line of the file, in file order."""
        check_header(path, _COLUMNS)
        return read_table(path, len(_COLUMNS), _event, header=True)


def _event(line: int, fields: list[str]) -> Event:
    time, visitor, behaviour, item, transaction = fields
    kind = _TYPES.get(behaviour)
    if kind is None:
        raise LineError("unknown event")
    free = {"transaction_id": msgspec.Raw(msgspec.json.encode(transaction))}
    return kind(
        event_id=f"retailrocket-{line}",
        user_id=visitor,
        event_time=integer(time),
        anonymous_id=visitor or None,
        item_id=item or None,
        properties=free if transaction else None,
    )
