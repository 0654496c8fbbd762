"""aiokafka's reading of record batches, for all consumers of this process.

Its own decompression knows no bound, and what it raises names neither topic nor offset; callers
would take it for an absent broker. `install` puts these classes in the place of its own: there is
no other place where the bytes of a response pass by.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from stream.errors import LogUnreadable
from stream.kafka.decompressing import (
    LENGTH_AT,
    LENGTH_END,
    MAGIC,
    CodecError,
    is_sound,
    plain_batch,
)


class WholeRecords(MemoryRecords):
    """aiokafka's reader of batches; it keeps what it reads from within reach."""

    def __init__(self, data: bytes) -> None:
        """`data`: the batches of one partition in a fetch response, the last maybe cut off."""
        super().__init__(data)
        self.data = data


class PlainRecords:
    """Yields the batches of `WholeRecords` without compression, as aiokafka's reader does."""

    def __init__(self, whole: WholeRecords) -> None:
        """Read from the first batch on; `whole` must not have been read from."""
        self._whole = whole
        self._at = 0

    def has_next(self) -> bool:
        """Return whether another whole batch is there."""
        return bool(self._whole.has_next())

    def next_batch(self) -> Any:
        """Return the next batch.

        Raises:
            CorruptRecordException: its checksum is wrong.
            CodecError: it cannot be decompressed.
        """
        batch, begin = self._whole.next_batch(), self._at
        data = memoryview(self._whole.data)
        self._at = end = batch_end(data, begin)
        if batch.magic != MAGIC or not batch.compression_type:
            return batch
        if not is_sound(data[begin:end]):
            raise CorruptRecordException
        return MemoryRecords(plain_batch(data[begin:end])).next_batch()


class NamingRecords(PartitionRecords):
    """aiokafka's records of a response; its errors name the place."""

    def _unpack_records(self) -> Iterator[Any]:
        # Only aiokafka's own consumers come here; `take_response` takes the batches as they are.
        whole: Any = self._records
        self._records: Any = PlainRecords(whole)
        try:
            yield from super()._unpack_records()
        except (CorruptRecordException, CodecError) as error:
            raise unreadable(self._tp, self.next_fetch_offset, error) from error


def install() -> None:
    """Have every consumer of this process read batches so; a second call changes nothing."""
    fetcher.MemoryRecords = WholeRecords
    fetcher.PartitionRecords = NamingRecords


def batch_end(data: memoryview, begin: int) -> int:
    """Return where the batch ends that begins at `begin`."""
    return begin + LENGTH_END + int.from_bytes(data[begin + LENGTH_AT : begin + LENGTH_END], "big")


def unreadable(tp: TopicPartition, offset: int, why: Exception) -> LogUnreadable:
    """Return an error that names the place, and what to do about it.

    Args:
        tp: topic and partition.
        offset: of the first record that cannot be read.
        why: `CodecError`, or an error about a damaged batch.
    """
    where = f"{tp.topic}-{tp.partition}: records from offset {offset}"
    if isinstance(why, CodecError):
        return LogUnreadable(f"{where} cannot be decompressed: {why}")
    return LogUnreadable(
        f"{where} are damaged on the broker: let another replica lead the partition"
    )
