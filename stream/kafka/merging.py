"""Records of several partitions in one order, whichever partition is fetched first."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aiokafka import ConsumerRecord

__all__ = ["Merge"]


class Merge:
    """Holds records back until no partition can bring an earlier one."""

    def __init__(self, first: str = "") -> None:
        """Expect nothing; all records of the topic `first` come before any others."""
        self._first = first
        self._waiting: dict[TopicPartition, deque[ConsumerRecord]] = {}
        self._time: dict[TopicPartition, int] = {}
        self._heads: list[tuple[int, str, int]] = []
        """Heap of (time, topic, partition) of the first record that waits in each."""
        self._empty: set[TopicPartition] = set()
        """Partitions that may bring a record earlier than those that wait."""
        self._closed: set[TopicPartition] = set()

    def expect(self, partitions: Iterable[TopicPartition]) -> None:
        """Wait for records of these partitions until they are closed."""
        for partition in partitions:
            self._waiting[partition] = deque()
            self._empty.add(partition)

    def lacks(self, partition: TopicPartition) -> bool:
        """Whether the next record in order may come from it, and is not here."""
        return partition in self._empty

    def add(self, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Take in the next records of a partition."""
        if not records:
            return
        self._waiting[partition].extend(records)
        if partition in self._empty:
            self._empty.remove(partition)
            self._push(partition)

    def close(self, partition: TopicPartition) -> None:
        """Expect no more records of a partition; those that wait still come."""
        self._empty.discard(partition)
        self._closed.add(partition)

    def take(self) -> Iterator[ConsumerRecord]:
        """Take out, in order, every record before which none can come any more."""
        while self._heads and not self._empty:
            _, topic, number = heapq.heappop(self._heads)
            partition = TopicPartition(topic, number)
            waiting = self._waiting[partition]
            yield waiting.popleft()
            if waiting:
                self._push(partition)
            elif partition not in self._closed:
                self._empty.add(partition)

    def _push(self, partition: TopicPartition) -> None:
        # Times may step back within a partition, where producers' clocks make them.
        time = max(self._waiting[partition][0].timestamp, self._time.get(partition, 0))
        self._time[partition] = time = 0 if partition.topic == self._first else time
        heapq.heappush(self._heads, (time, partition.topic, partition.partition))
