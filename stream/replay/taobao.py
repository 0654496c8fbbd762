"""Alibaba "UserBehavior" (Taobao): user, item, category, behaviour, unix seconds; no header."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from schemas.events import CartAdd, Event, Favourite, Purchase, View
from stream.replay.adapter import (
    AS_FOUND,
    LineError,
    ParsedLine,
    Wanted,
    identifier,
    integer,
    user_of,
)
from stream.replay.tables import open_plain, read_table

_COLUMNS: Final = 5
_TYPES: Final[dict[str, type[Event]]] = {
    "pv": View,
    "cart": CartAdd,
    "fav": Favourite,
    "buy": Purchase,
}


class Taobao:
    """The adapter. The times are true UTC instants; the shop itself lives in UTC+8."""

    name = "taobao"

    def fits(self, line: bytes) -> bool:
        """Whether a file that begins with this line may be one of this format."""
        fields = line.decode("utf-8", "replace").split(",")
        return len(fields) == _COLUMNS and fields[3] in _TYPES

    def read(self, path: Path, wanted: Wanted = AS_FOUND) -> Iterator[ParsedLine]:
        """Yield every line of the file, in file order."""
        del wanted
        return read_table(open_plain(path, _COLUMNS), _event)


def _event(line: int, fields: list[str]) -> Event:
    user, item, category, behaviour, seconds = fields
    kind = _TYPES.get(behaviour)
    if kind is None:
        raise LineError("unknown behaviour")
    return kind(
        event_id=f"taobao-{line}",
        user_id=user_of(user),
        event_time=integer(seconds) * 1000,
        item_id=identifier(item),
        category_id=identifier(category),
    )
