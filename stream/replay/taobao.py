"""Alibaba "UserBehavior" (Taobao): user, item, category, behaviour, unix seconds; no header."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from schemas.events import CartAdd, Event, Favourite, Purchase, View
from stream.replay.adapter import LineError, ParsedLine, integer
from stream.replay.lines import read_table

_TYPES: Final[dict[str, type[Event]]] = {
    "pv": View,
    "cart": CartAdd,
    "fav": Favourite,
    "buy": Purchase,
}


class Taobao:
    """The adapter. The times are true UTC instants; the shop itself lives in UTC+8."""

    name = "taobao"

    def read(self, path: Path) -> Iterator[ParsedLine]:
        """Yield every line of the file, in file order."""
        return read_table(path, 5, _event, header=False)


def _event(line: int, fields: list[str]) -> Event:
    user, item, category, behaviour, seconds = fields
    kind = _TYPES.get(behaviour)
    if kind is None:
        raise LineError("unknown behaviour")
    return kind(
        event_id=f"taobao-{line}",
        user_id=user,
        event_time=integer(seconds) * 1000,
        item_id=item or None,
        category_id=category or None,
    )
