"""A `RecordStore` in memory: for the brokerless driver and for tests of the pure rooms."""

import bisect
from collections.abc import Iterable

from stream.storage.store import NO_OFFSET, USER_PREFIX, Changelog, TimerMoves


class MemoryStore:
    """The contract of `stream.storage.store.RecordStore` in plain dictionaries."""

    def __init__(self) -> None:
        """Start empty."""
        self._values: dict[bytes, bytes] = {}
        self._timers: list[tuple[int, bytes]] = []
        self._offset = NO_OFFSET

    @property
    def changelog_offset(self) -> int:
        """Offset of the last changelog record contained, -1 when there is none."""
        return self._offset

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        return self._values.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of `keys`, in their order."""
        return [self._values.get(key) for key in keys]

    def due(self, until_ms: int, limit: int, after: int = -1) -> list[tuple[int, bytes]]:
        """Return up to `limit` (due, user key), `after` < due <= `until_ms`, ordered."""
        end = bisect.bisect_left(self._timers, (until_ms + 1, b""))
        begin = bisect.bisect_left(self._timers, (after + 1, b""))
        return self._timers[begin:end][:limit]

    def first_due(self, after: int = -1) -> int | None:
        """Return the earliest due time in the index later than `after`, ms."""
        at = bisect.bisect_left(self._timers, (after + 1, b""))
        return self._timers[at][0] if at < len(self._timers) else None

    def apply(self, changelog: Changelog, timers: TimerMoves, changelog_offset: int) -> None:
        """Write one commit: records, timer index, offset."""
        for key, value in changelog:
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        for key, old, new in timers:
            if old is not None and old != new:
                self._remove_timer((old, key))
            if new is not None:
                self._add_timer((new, key))
        self._offset = changelog_offset

    def purge(self, keys: Iterable[bytes]) -> None:
        """Do nothing: there are no files."""

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` user records with a key greater than `after`, in key order."""
        keys = sorted(key for key in self._values if key.startswith(USER_PREFIX) and key > after)
        return [(key, self._values[key]) for key in keys[:limit]]

    def user_count(self) -> int:
        """Return the number of user records."""
        return sum(key.startswith(USER_PREFIX) for key in self._values)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _remove_timer(self, entry: tuple[int, bytes]) -> None:
        at = bisect.bisect_left(self._timers, entry)
        if at < len(self._timers) and self._timers[at] == entry:
            del self._timers[at]

    def _add_timer(self, entry: tuple[int, bytes]) -> None:
        at = bisect.bisect_left(self._timers, entry)
        if at == len(self._timers) or self._timers[at] != entry:
            self._timers.insert(at, entry)
