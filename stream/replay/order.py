"""Ordering by time out of core: sorted runs on disk, then a merge, within a memory budget."""

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

from stream.replay.errors import ReplayError

__all__ = ["MEMORY_BYTES", "Row", "in_time_order"]

MEMORY_BYTES: Final = 256 << 20
"""Default budget for rows held in memory while sorting."""
_ROW_OVERHEAD: Final = 320
"""Measured size of a row's tuple, integers and bytes headers, beside its own bytes."""
_CHUNK_ROWS: Final = 256
_FAN_IN: Final = 64
"""Runs merged at once: bounds open files and read buffers."""


class Row(NamedTuple):
    """One record to produce. Rows compare by time, then by sequence."""

    time: int
    """What to order and to pace by: milliseconds since the epoch, UTC."""
    sequence: int
    """Place among rows of the same time."""
    key: bytes | None
    value: bytes


_ENCODER: Final = msgspec.msgpack.Encoder()
_CHUNKS: Final = msgspec.msgpack.Decoder(list[tuple[int, int, bytes | None, bytes]])


def in_time_order(
    rows: Iterable[Row], *, memory_bytes: int = MEMORY_BYTES, folder: Path | None = None
) -> Iterator[Row]:
    """Yield the rows by time; rows of the same time stay in the order of their sequence.

    Args:
        rows: in any order.
        memory_bytes: budget for rows in memory; what does not fit is spilled, sorted, to disk.
        folder: where to spill to; none: the system's temporary folder. Files go with the iterator.

    Raises:
        ReplayError: there is no room to spill to.
    """
    kept: list[Row] = []
    size = 0
    with tempfile.TemporaryDirectory(prefix="intentstream-sort-", dir=folder) as scratch:
        runs = _Runs(Path(scratch))
        for row in rows:
            kept.append(row)
            size += _ROW_OVERHEAD + len(row[3]) + len(row[2] or b"")
            if size > memory_bytes:
                kept.sort()
                runs.spill(kept)
                kept = []
                size = 0
        kept.sort()
        if not runs.paths:
            yield from kept
            return
        yield from heapq.merge(kept, *map(_read_run, runs.paths))


class _Runs:
    """Sorted files; many small ones are merged into a large one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        self._count = 0

    def spill(self, rows: Iterable[Row]) -> None:
        self.paths.append(self._write(rows))
        if len(self.paths) >= _FAN_IN:
            merged = self._write(heapq.merge(*map(_read_run, self.paths)))
            for path in self.paths:
                path.unlink()
            self.paths = [merged]

    def _write(self, rows: Iterable[Row]) -> Path:
        self._count += 1
        path = self.folder / f"{self._count}.run"
        try:
            with path.open("wb") as file:
                chunk: list[Row] = []
                for row in rows:
                    chunk.append(row)
                    if len(chunk) == _CHUNK_ROWS:
                        _write_chunk(file, chunk)
                        chunk = []
                _write_chunk(file, chunk)
        except OSError as error:
            raise ReplayError(
                f"cannot sort in {self.folder}: {error}; point TMPDIR to a folder with room for"
                " the events, raise --sort-memory, or keep the file's order with --order file"
            ) from error
        return path


def _write_chunk(file: IO[bytes], rows: list[Row]) -> None:
    encoded = _ENCODER.encode(rows)
    file.write(len(encoded).to_bytes(4, "big"))
    file.write(encoded)


def _read_run(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        while head := file.read(4):
            chunk = file.read(int.from_bytes(head, "big"))
            yield from map(Row._make, _CHUNKS.decode(chunk))
