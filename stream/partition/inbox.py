"""A partition's door: which micro-batches it takes from the transport, and in which order."""

from collections import deque
from typing import Final

from stream.errors import PartitionError
from stream.kafka.fetching import MicroBatch
from stream.kafka.offsets import Start

ROOM: Final = 2
"""Micro-batches taken and not yet processed: one at work and one waiting."""


class Inbox:
    """Takes each record of an open partition once, in turn, and no more than there is room for."""

    def __init__(self, where: str) -> None:
        """Closed; `where` names the partition in messages."""
        self._where = where
        self.position: int | None = None
        """Source offset to be taken next, None while it is closed."""
        self._arriving: deque[MicroBatch] = deque()
        self._queue: deque[MicroBatch] = deque()
        self._at_work = 0
        self._end = 0
        self._lost = 0

    def open(self, start: Start) -> None:
        """Take what comes from there on."""
        self.position = self._end = start.offset
        self._lost = start.lost

    def close(self) -> None:
        """Take nothing any more; what has been taken stays."""
        self.position = None

    @property
    def has_room(self) -> bool:
        """Whether another micro-batch may be fetched."""
        return self.position is not None and self.held < ROOM

    @property
    def held(self) -> int:
        """Micro-batches on their way, waiting or at work."""
        return len(self._arriving) + len(self._queue) + self._at_work

    @property
    def waiting(self) -> int:
        """Micro-batches that can be processed now."""
        return len(self._queue)

    @property
    def expected(self) -> int | None:
        """Start of the batch that is on its way from the transport, None if none is."""
        arriving = list(self._arriving)
        return arriving[0].start if arriving else None

    @property
    def done_to(self) -> int | None:
        """Offset before which all is processed, None while something is held."""
        return None if self.held else self._end

    def take_lost(self) -> int:
        """Return what was lost behind the last batch taken, once."""
        lost, self._lost = self._lost, 0
        return lost

    def offer(self, batch: MicroBatch) -> bool:
        """Reserve room for a batch that continues what was taken; refuse any other."""
        if self.position is None or batch.start != self.position:
            return False
        self.position = self._end = batch.end
        self._lost += batch.lost
        if batch.records:
            batch.lost, self._lost = self._lost, 0
            self._arriving.append(batch)
        return True

    def deliver(self, batch: MicroBatch) -> None:
        """Take the batch that Faust's stream has brought.

        Raises:
            PartitionError: it is not the next one: a batch was lost on its way.
        """
        if self.position is None:
            return
        if not self._arriving or self._arriving.popleft() is not batch:
            raise PartitionError(
                f"{self._where}: offsets {batch.start} to {batch.end} were delivered out of turn:"
                " a bug of intentstream, please report it with the log; a restarted worker reads"
                " them again"
            )
        self._queue.append(batch)

    def take(self) -> MicroBatch | None:
        """Begin with the next batch, if one is there."""
        if not self._queue:
            return None
        self._at_work += 1
        return self._queue.popleft()

    def done(self) -> None:
        """The batch taken last is processed."""
        self._at_work -= 1
