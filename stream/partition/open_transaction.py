"""Notices that a transaction which its producer does not end keeps records of a partition back.

A read_committed consumer sees nothing behind the first open transaction (the last stable offset),
while the log goes on behind it up to the high watermark. Short transactions are all that a
transactional producer makes; one that stays open is named.
"""

import time
from typing import Final

import structlog
from aiokafka import TopicPartition

from stream.kafka.transport import LogState

PATIENCE_S: Final = 5.0
"""A transaction that ends within this time is not worth a word."""

log = structlog.get_logger(__name__)


class OpenTransaction:
    """The transaction at which one partition waits, if any."""

    def __init__(self, tp: TopicPartition) -> None:
        """Wait at none."""
        self.blocked_at: int | None = None
        """First offset of a transaction that has kept records back for `PATIENCE_S`."""
        self._where = f"{tp.topic}-{tp.partition}"
        self._at: int | None = None
        self._since = 0.0

    def look(self, position: int | None, state: LogState | None) -> None:
        """Take in the position to be read next, and what the last fetch response contains."""
        if position is None or state is None:
            return
        at = state.stable_end if state.stable_end <= position < state.high_water else None
        now = time.monotonic()
        if at != self._at:
            if self.blocked_at is not None:
                log.info("the open transaction has ended", partition=self._where, offset=self._at)
            self._at, self._since, self.blocked_at = at, now, None
        elif at is not None and self.blocked_at is None:
            if now - self._since < PATIENCE_S:
                return
            self.blocked_at = at
            log.warning(
                "blocked by an open transaction of a producer: what lies behind it cannot be read,"
                " and no absence timer fires, until it ends or times out"
                " (kafka-transactions find-hanging)",
                partition=self._where,
                offset=at,
                behind=state.high_water - at,
            )
