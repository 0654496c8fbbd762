"""OTTO "Recommender System Dataset": JSON Lines, one session with all its events a line.

An event's id is `otto-<line>-<place in the session, from 0>`. A session is the only identity in the
data, so it is the user as well as the session.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from schemas.events import CartAdd, Event, Purchase, View
from stream.replay.adapter import AS_FOUND, ParsedLine, Rejected, Wanted
from stream.replay.lines import MAX_LINE_BYTES, read_lines

_TYPES: Final[dict[str, type[Event]]] = {"clicks": View, "carts": CartAdd, "orders": Purchase}


class _Action(msgspec.Struct):
    aid: int
    ts: int
    """Milliseconds since the epoch, UTC."""
    type: str


class _Session(msgspec.Struct):
    session: int
    events: list[msgspec.Raw]


class Otto:
    """The adapter. One bad entry of a session rejects itself, not the session."""

    name = "otto"

    def fits(self, line: bytes) -> bool:
        """Whether a file that begins with this line may be one of this format."""
        return line.startswith(b"{") and b'"session"' in line and b'"events"' in line

    def read(self, path: Path, wanted: Wanted = AS_FOUND) -> Iterator[ParsedLine]:
        """Yield the events of every line of the file, in file order."""
        del wanted
        sessions = msgspec.json.Decoder(_Session)
        for number, line in read_lines(path):
            if line is None:
                yield number, Rejected(number, f"longer than {MAX_LINE_BYTES} bytes")
                continue
            try:
                session = sessions.decode(line.decode())
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                yield number, Rejected(number, "blank line" if not line else "no OTTO session")
                continue
            if not session.events:
                yield number, Rejected(number, "session without events", "invalid")
            yield from _actions(number, session)


def _actions(line: int, session: _Session) -> Iterator[ParsedLine]:
    user = str(session.session)
    for place, raw in enumerate(session.events):
        try:
            action = msgspec.json.decode(raw, type=_Action)
        except (msgspec.MsgspecError, RecursionError):
            yield line, Rejected(line, "no OTTO event")
            continue
        kind = _TYPES.get(action.type)
        if kind is None:
            yield line, Rejected(line, "unknown type")
            continue
        yield (
            line,
            kind(
                event_id=f"otto-{line}-{place}",
                user_id=user,
                event_time=action.ts,
                session_id=user,
                item_id=str(action.aid),
            ),
        )
