"""CSV files with or without a header: where the wanted columns are, and what a line holds in them.

Columns are found by name, in any order and under any of their names, with further columns beside
them. The separator is the one that the header is written with.
"""

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.events import Event
from stream.replay.adapter import LineError, ParsedLine, Rejected
from stream.replay.errors import ReplayError
from stream.replay.lines import MAX_LINE_BYTES, first_line, read_lines

__all__ = ["Columns", "Table", "fits", "open_plain", "open_table", "read_fields", "read_table"]

Columns = Mapping[str, Sequence[str]]
"""Column -> other names of it, by which it is found as well."""
_SEPARATORS: Final = ",;\t|"
_LONGEST: Final = 100
"""Lines that a record may go on for."""


@dataclass(frozen=True, slots=True)
class Table:
    """How the lines of a file are read."""

    path: Path
    width: int
    """Fields of a good line."""
    places: tuple[int, ...]
    """Where the wanted fields are, in the order in which they are wanted."""
    separator: str = ","
    header: bool = True
    """Whether the first line names the columns and is passed over."""
    fallback: str | None = None
    """Encoding of lines that are not UTF-8; None: they are rejected."""


def open_table(path: Path, columns: Columns, fallback: str | None = None) -> Table:
    """Find the columns by the first line of a file.

    Raises:
        ReplayError: the file is empty, or columns are missing or there twice; names them all.
    """
    text = _text(first_line(path))
    wanted = ",".join(columns)
    if not text.strip():
        raise ReplayError(f"{path} is empty: expected a first line {wanted}")
    separator, names = _split(text)
    places, missing = _find(names, columns)
    if missing:
        raise ReplayError(
            f"{path}, line 1: no column {', '.join(missing)}; the columns must be {wanted}, but the"
            f" line is {text[:200]!r}; rename the columns, or choose another --format"
        )
    twice = [name for name, found in zip(columns, places, strict=True) if len(found) > 1]
    if twice:
        raise ReplayError(
            f"{path}, line 1: column {', '.join(twice)} is there more than once; keep one of each"
        )
    return Table(path, len(names), tuple(p[0] for p in places), separator, fallback=fallback)


def open_plain(path: Path, width: int) -> Table:
    """A file without a header, whose lines have so many fields.

    Raises:
        ReplayError: the file cannot be read.
    """
    separator, names = _split(_text(first_line(path)))
    found = separator if len(names) == width else ","
    return Table(path, width, tuple(range(width)), found, header=False)


def fits(line: bytes, columns: Columns) -> bool:
    """Whether a first line names all these columns."""
    return not _find(_split(_text(line))[1], columns)[1]


def read_table(table: Table, to_event: Callable[[int, list[str]], Event]) -> Iterator[ParsedLine]:
    """Parse a CSV file line by line.

    Args:
        table: the file.
        to_event: makes an event of the line number and the wanted fields, or raises `LineError`.
    """
    for number, fields in _records(table):
        try:
            if isinstance(fields, LineError):
                raise fields
            yield number, to_event(number, fields)
        except LineError as error:
            yield number, Rejected(number, error.reason, error.kind)


def read_fields(table: Table) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the wanted fields of every line that can be read."""
    for number, fields in _records(table):
        if not isinstance(fields, LineError):
            yield number, fields


def _records(table: Table) -> Iterator[tuple[int, list[str] | LineError]]:
    """The lines' fields; a quoted field may go on over several lines."""
    lines = read_lines(table.path)
    if table.header:
        next(lines, None)
    ahead: deque[tuple[int, bytes | None]] = deque()
    while True:
        number, line = ahead.popleft() if ahead else next(lines, (0, None))
        if not number:
            return
        try:
            fields = _fields(table, line)
        except LineError as error:
            joined = _joined(table, line, lines, ahead)
            yield number, error if joined is None else joined
        else:
            yield number, fields


def _joined(
    table: Table,
    line: bytes | None,
    lines: Iterator[tuple[int, bytes | None]],
    ahead: deque[tuple[int, bytes | None]],
) -> list[str] | None:
    """A record that begins in `line` and ends in the next line with an odd number of quotes.

    None if there is none: a lone quote must not swallow the lines that follow, so they stay ahead.
    """
    if line is None or not line.count(b'"') % 2:
        return None
    parts = [line]
    for place in range(_LONGEST):
        if place == len(ahead):
            following = next(lines, None)
            if following is None:
                return None
            ahead.append(following)
        more = ahead[place][1]
        if more is None:
            return None
        parts.append(more)
        if more.count(b'"') % 2:
            try:
                fields = _fields(table, b"\n".join(parts))
            except LineError:
                return None
            for _ in range(place + 1):
                ahead.popleft()
            return fields
    return None


def _fields(table: Table, line: bytes | None) -> list[str]:
    if line is None:
        raise LineError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        if table.fallback is None:
            raise LineError("not utf-8") from None
        text = line.decode(table.fallback)
    separator = table.separator
    try:
        if '"' in text:
            rows = io.StringIO(text, newline="") if "\n" in text else [text]
            fields = next(csv.reader(rows, delimiter=separator))
        else:
            fields = text.split(separator)
    except csv.Error:
        raise LineError("broken quoting") from None
    if len(fields) != table.width:
        if not text.strip():
            raise LineError("blank line")
        raise LineError(f"{table.width} columns expected")
    return [fields[place] for place in table.places]


def _split(text: str) -> tuple[str, list[str]]:
    """The separator of a header, and its names."""
    separator = max(_SEPARATORS, key=text.count)
    try:
        names = next(csv.reader([text], delimiter=separator), [])
    except csv.Error:
        names = text.split(separator)
    return separator, names


def _find(names: Sequence[str], columns: Columns) -> tuple[list[list[int]], list[str]]:
    """The places of each column, and the columns that have none."""
    plain = [_plain(name) for name in names]
    places = []
    for column, others in columns.items():
        known = {_plain(name) for name in (column, *others)}
        places.append([place for place, name in enumerate(plain) if name in known])
    missing = [column for column, found in zip(columns, places, strict=True) if not found]
    return places, missing


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
