"""Lines of text files, plain or compressed, numbered, and bounded in length."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import pyarrow as pa

from schemas.events import Event
from stream.replay.adapter import LineError, ParsedLine, Rejected
from stream.replay.errors import ReplayError

__all__ = ["MAX_LINE_BYTES", "check_header", "read_lines", "read_table"]

MAX_LINE_BYTES: Final = 8 << 20
"""A longer line is rejected unread, so that a file without line ends needs no memory."""
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_BUFFER: Final = 1 << 20


def read_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line's number, from 1, and its bytes without the line end; None if too long.

    Files ending in .gz, .zst, .bz2 or .lz4 are decompressed on the way.

    Raises:
        ReplayError: the file is missing, is no file, or its compression is damaged.
    """
    try:
        with _open(path) as stream:
            number = 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
                    yield number, line.rstrip(b"\r\n")
                    continue
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_LINE_BYTES)
                yield number, None
    except (OSError, pa.ArrowInvalid) as error:
        raise ReplayError(f"cannot read {path}: {error}") from error


def _open(path: Path) -> IO[bytes]:
    compression = _COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        return path.open("rb", buffering=_BUFFER)
    return io.BufferedReader(pa.input_stream(str(path), compression=compression), _BUFFER)


def check_header(path: Path, expected: Sequence[str]) -> None:
    """Check that the first line of a CSV file names exactly the expected columns.

    Raises:
        ReplayError: it does not; the message shows both.
    """
    for _, line in read_lines(path):
        text = (line or b"")[:1000].decode("utf-8-sig", "replace")
        if [name.strip().strip('"') for name in text.split(",")] != list(expected):
            raise ReplayError(
                f"{path}, line 1: the columns must be {','.join(expected)}, but the line is"
                f" {text[:200]!r}; choose another --format"
            )
        return
    raise ReplayError(f"{path} is empty: expected a first line {','.join(expected)}")


def read_table(
    path: Path,
    columns: int,
    to_event: Callable[[int, list[str]], Event],
    *,
    header: bool,
    encoding: str = "utf-8",
) -> Iterator[ParsedLine]:
    """Parse a CSV file line by line.

    Args:
        path: the file.
        columns: number of fields of a good line.
        to_event: makes an event of the line number and the fields, or raises `LineError`.
        header: whether the first line names the columns and is passed over.
        encoding: of the text.
    """
    for number, line in read_lines(path):
        if header and number == 1:
            continue
        try:
            yield number, to_event(number, _fields(line, columns, encoding))
        except LineError as error:
            yield number, Rejected(number, error.reason, error.kind)


def _fields(line: bytes | None, columns: int, encoding: str) -> list[str]:
    if line is None:
        raise LineError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError:
        raise LineError(f"not {encoding}") from None
    try:
        # One line is one record here: a lone quote must not swallow the lines that follow.
        fields = next(csv.reader([text]), []) if '"' in text else text.split(",")
    except csv.Error:
        raise LineError("broken quoting") from None
    if len(fields) != columns:
        if not text:
            raise LineError("blank line")
        raise LineError(f"{columns} columns expected")
    return fields
