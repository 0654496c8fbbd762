"""Requests to forget a user, and the point of the log at which each takes effect.

A request takes effect between two events: after everything that lay in the user's partition when
the broker took the request in, before everything that came later. So the same log gives the same
state, however far a worker lags behind. Where that point is already passed when the request is read
(a worker that keeps up is ahead of it by milliseconds), it takes effect at once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.codec import decode
from schemas.control import EraseUser
from schemas.errors import InvalidMessage, Reason
from stream.pipeline.ingest import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.pipeline.records import Record

_ALONE: Final = (
    "Erased by this user_id alone: anonymous_id joins nothing. What was sent under another user_id,"
    " an anonymous visitor's for instance, has to be erased by that id."
)
_FILES: Final = (
    "The worker rewrites its local files without the user right after this receipt; a worker that"
    " is killed just then leaves old bytes in them until RocksDB merges these files."
)
NOTES: Final = (_ALONE, _FILES)
"""What every receipt says."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """One record of the request topic."""

    record: Record
    request: EraseUser | InvalidMessage
    """What it says, or why it says nothing."""
    until: int
    """End of the source partition as the request was read: nothing beyond belongs to it."""
    kept_ms: Mapping[str, int | None] = field(default_factory=dict)
    """Topic -> for how long it keeps copies at most, None for ever."""

    @property
    def time(self) -> int:
        """Broker's time of the request, ms: events with the same or a later one came after it."""
        return self.record.timestamp


def read_requests(
    records: Sequence[Record],
    *,
    until: int,
    partition: int,
    partitions: int | None,
    kept_ms: Mapping[str, int | None] | None = None,
) -> list[Erasure]:
    """Decode records of the request topic.

    Args:
        records: of one partition, in order.
        until: end of the source partition, asked for after the records were read.
        partition: which one.
        partitions: how many; a request in another one than its user's finds nobody and is refused.
            None where that cannot be told, because users are known by pseudonyms.
        kept_ms: how long each topic keeps its records.
    """
    return [
        Erasure(record, _request(record, partition, partitions), until, kept_ms or {})
        for record in records
    ]


def _request(record: Record, partition: int, partitions: int | None) -> EraseUser | InvalidMessage:
    try:
        request = decode(EraseUser, record.value)
    except InvalidMessage as error:
        return error
    if partitions is not None:
        belongs = partition_of(request.user_id.encode(), partitions)
        if belongs != partition:
            return InvalidMessage(
                Reason.WRONG_PARTITION,
                "user_id",
                f"murmur2 of the user id gives partition {belongs}, the request lies in"
                f" {partition}: send it with the user id as key, or use `intentstream erase`",
            )
    return request


class Erasures:
    """Requests that wait for the point at which they take effect, in their order."""

    def __init__(self) -> None:
        """None yet."""
        self._waiting: deque[Erasure] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, erasures: Iterable[Erasure]) -> None:
        """Take in requests, in the order of the log."""
        self._waiting.extend(erasures)

    def cut(self, records: Sequence[Record]) -> int | None:
        """Index of the first record that comes after the first request, None if all come before."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        for index, record in enumerate(records):
            if record.timestamp >= first.time or record.offset >= first.until:
                return index
        return None

    def next(self) -> Erasure:
        """Take the first request out."""
        return self._waiting.popleft()

    def due(self, reached: int) -> Iterable[Erasure]:
        """Take out, one by one, what only waited for the source to be processed up to `reached`."""
        while self._waiting and self._waiting[0].until <= reached:
            yield self._waiting.popleft()
