"""A partition's door: which micro-batches it takes from the transport, and in which order.

What comes while a batch is at work waits, and is worked through together: the smaller the batches
come, the more of them make the next one.
"""

from collections import deque

from stream.errors import PartitionError
from stream.fetching import MicroBatch


class Inbox:
    """Takes each record of an open partition once, in turn, and no more than there is room for."""

    def __init__(self, where: str, batch_size: int) -> None:
        """Closed.

        Args:
            where: names the partition in messages.
            batch_size: records that are worked through at once, at most. While so many wait, no
                more are fetched.
        """
        self._where = where
        self._batch_size = batch_size
        self.position: int | None = None
        """Source offset to be taken next, None while it is closed."""
        self._arriving: deque[MicroBatch] = deque()
        self._queue: deque[MicroBatch] = deque()
        self._ahead = 0
        self._at_work = False

    def open(self, offset: int) -> None:
        """Take what comes from `offset` on."""
        self.position = offset

    def close(self) -> None:
        """Take nothing any more; what has been taken stays."""
        self.position = None

    @property
    def has_room(self) -> bool:
        """Whether another micro-batch may be fetched."""
        return self.position is not None and self._ahead < self._batch_size

    @property
    def empty(self) -> bool:
        """Whether nothing is on its way, waiting or at work."""
        return not (self._at_work or self._ahead)

    @property
    def expected(self) -> int | None:
        """Start of the batch that is on its way from the transport, None if none is."""
        arriving = list(self._arriving)
        return arriving[0].start if arriving else None

    def offer(self, batch: MicroBatch) -> bool:
        """Reserve room for a batch that continues what was taken; refuse any other."""
        if self.position is None or batch.start != self.position:
            return False
        self.position = batch.end
        if batch.records:
            self._arriving.append(batch)
            self._ahead += len(batch.records)
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
                f"{self._where}: offsets {batch.start} to {batch.end} were delivered out of turn"
            )
        self._queue.append(batch)

    def take(self) -> MicroBatch | None:
        """Begin with what waits, as one batch, if anything does."""
        if not self._queue:
            return None
        taken = [self._queue.popleft()]
        count = len(taken[0].records)
        while self._queue and count + len(self._queue[0].records) <= self._batch_size:
            taken.append(self._queue.popleft())
            count += len(taken[-1].records)
        self._ahead -= count
        self._at_work = True
        return MicroBatch.joined(taken)

    def done(self) -> None:
        """The batch taken last is processed."""
        self._at_work = False
