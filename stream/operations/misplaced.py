"""Dead letters of events in wrong partitions: which clients seem to have sent them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from schemas.errors import Reason
from stream.kafka.partitioners import Sample, shares

if TYPE_CHECKING:
    from schemas.refused import DeadLetter
    from stream.kafka.partitioners import ClientShare

__all__ = ["LETTERS", "Misplaced"]

LETTERS: Final = 2_000
"""Newest letters that are looked at, at most."""


class Misplaced:
    """The newest events in wrong partitions, by their dead letters."""

    def __init__(self, topic: str, partitions: int) -> None:
        """``topic`` has the events, in so many partitions."""
        self._topic = topic
        self._partitions = partitions
        self._samples: deque[Sample] = deque(maxlen=LETTERS)
        self._found: list[ClientShare] | None = []

    def add(self, letter: DeadLetter) -> None:
        """Take in a dead letter; others than of events in wrong partitions say nothing."""
        source = letter.source
        if (
            letter.reason is Reason.WRONG_PARTITION
            and source.topic == self._topic
            and letter.key
            and not letter.clipped
        ):
            self._samples.append(Sample(letter.key, source.partition, self._partitions))
            self._found = None

    @property
    def letters(self) -> int:
        """How many there are."""
        return len(self._samples)

    def clients(self) -> list[ClientShare]:
        """Who seems to have sent them, the greatest share first."""
        if self._found is None:
            self._found = shares(self._samples)
        return self._found
