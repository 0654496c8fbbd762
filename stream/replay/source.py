"""A file and a format -> rows to produce, in order, inside a window, every line accounted for."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import msgspec

from models.encoding import hash64
from schemas.codec import decode_event, encode
from schemas.errors import InvalidEvent, Reason
from schemas.events import Event
from schemas.times import time_fault, unit_of
from stream.replay.adapter import AS_FOUND, Adapter, Kind, Rejected, Wanted
from stream.replay.errors import ReplayError
from stream.replay.formats import FORMATS, adapter_of
from stream.replay.lines import first_line
from stream.replay.order import MEMORY_BYTES, Row, in_time_order
from stream.replay.report import Report

__all__ = ["Order", "parse_moment", "read_events", "read_rows"]

Order = Literal["time", "file"]


class _Time(msgspec.Struct):
    event_time: int


PARQUET: Final = "online-retail"
"""The format that may also be a Parquet file."""
_SECONDS_BELOW: Final = 100_000_000_000
"""A bare number below this (the year 5138) is seconds; in milliseconds it would be 1973."""
_SYNTAX: Final = frozenset({"truncated", "malformed", "not_utf8"})


def parse_moment(text: str) -> int:
    """Read unix seconds, unix milliseconds or an ISO 8601 date (UTC if it has no zone), as ms.

    Raises:
        ReplayError: it is none of these.
    """
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if abs(number) < _SECONDS_BELOW:
            return round(number * 1000)
        if abs(number) < _SECONDS_BELOW * 1000:
            return round(number)
        raise ReplayError(f"{text} is no time: give unix seconds, milliseconds or an ISO date")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ReplayError(
            f"{text!r} is no time: give unix seconds, unix milliseconds, or an ISO date such as"
            " 2017-11-25 or 2017-11-25T08:00:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def read_rows(
    path: Path,
    format_name: str,
    report: Report,
    *,
    order: Order = "time",
    since: int | None = None,
    until: int | None = None,
    limit: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    wanted: Wanted = AS_FOUND,
) -> Iterator[Row]:
    """Yield the file's events as records: key `user_id`, value the event in JSON.

    An event's id is the format, the line and, where one line holds several, the place in it; so it
    is the same in any order, window and limit.

    Args:
        path: the file.
        format_name: a key of `FORMATS`.
        report: takes the counts; complete when the iterator is exhausted.
        order: by event time, ties as histories keep them (lines of one order often share a time,
            and inserting each before its predecessors is slow), or as in the file.
        since: first event time to take, in milliseconds; none: from the beginning.
        until: first event time no longer to take.
        limit: most events to yield. In file order nothing is read beyond it.
        memory_bytes: budget of the sort.
        wanted: how the file writes dates and decimals, where it does not tell by itself.

    Raises:
        ReplayError: unknown format, or a file that cannot be read as this format.
    """
    adapter = adapter_of(format_name)
    report.path = str(path)
    report.format = format_name
    if path.is_dir():
        raise ReplayError(f"{path} is a folder: name one file of it")
    if not path.is_file():
        raise ReplayError(f"no such file: {path}")
    rows = _rows(adapter, path, report, since, until, wanted)
    if order == "file":
        return islice(rows, limit)
    return _limited(in_time_order(rows, memory_bytes=memory_bytes), limit, report)


def read_events(
    path: Path,
    format_name: str,
    *,
    order: Order = "time",
    since: int | None = None,
    until: int | None = None,
) -> Iterator[Event]:
    """Yield the events that `read_rows` gives, decoded; rejects are passed over."""
    rows = read_rows(path, format_name, Report(), order=order, since=since, until=until)
    return (decode_event(row.value) for row in rows)


def _check_format(adapter: Adapter, path: Path) -> None:
    """Refuse a file that is of another format by its first line.

    Raises:
        ReplayError: it is; names that format.
    """
    if path.suffix.lower() == ".parquet" and adapter.name == PARQUET:
        return
    line = first_line(path)
    if adapter.fits(line):
        return
    other = next((name for name in FORMATS if adapter_of(name).fits(line)), None)
    if other is not None:
        raise ReplayError(f"{path}, line 1: not {adapter.name} but {other}: pass --format {other}")


def _limited(rows: Iterator[Row], limit: int | None, report: Report) -> Iterator[Row]:
    yielded = 0
    for row in islice(rows, limit):
        yielded += 1
        yield row
    report.beyond_limit = report.ready - yielded


def _rows(
    adapter: Adapter,
    path: Path,
    report: Report,
    since: int | None,
    until: int | None,
    wanted: Wanted,
) -> Iterator[Row]:
    low = since if since is not None else -math.inf
    high = until if until is not None else math.inf
    last = 0
    _check_format(adapter, path)
    for line, parsed in adapter.read(path, wanted):
        if line != last:
            report.lines += 1
            last = line
        if report.interrupted:
            return
        report.entries += 1
        if isinstance(parsed, Rejected):
            report.reject(parsed)
            continue
        event = None if isinstance(parsed, bytes) else parsed
        if event is not None and not low <= event.event_time < high:
            report.outside.add(line)
            continue
        try:
            value = parsed if isinstance(parsed, bytes) else encode(parsed)
            checked = decode_event(value)
        except InvalidEvent as error:
            report.reject(_refused(line, error, parsed))
            continue
        except (UnicodeEncodeError, OverflowError):
            report.reject(Rejected(line, "out_of_range", "invalid"))
            continue
        if not low <= checked.event_time < high:
            report.outside.add(line)
            continue
        fault = time_fault(checked.event_time)
        if fault is not None:
            report.reject(Rejected(line, f"event_time {fault}", "invalid"))
            continue
        report.ready += 1
        yield Row(checked.event_time, hash64(checked.event_id), checked.user_id.encode(), value)


def _refused(line: int, error: InvalidEvent, parsed: Event | bytes) -> Rejected:
    reason = error.reason.value
    own = isinstance(parsed, bytes)
    kind: Kind = "unparsed" if own and reason in _SYNTAX else "invalid"
    text = f"{reason} ({error.field})" if error.field else reason
    if error.reason is Reason.WRONG_TYPE and (error.field or "").endswith("_id"):
        text += ": an id is text, in quotes"
    elif error.reason is Reason.WRONG_TYPE and error.field == "event_time":
        text += ": an integer of milliseconds since 1970 is needed"
    elif error.reason is Reason.OUT_OF_RANGE and error.field == "event_time":
        unit = unit_of(_time_of(parsed))
        text += f": looks like {unit}; milliseconds since 1970 are needed" if unit else ""
    return Rejected(line, text, kind)


def _time_of(parsed: Event | bytes) -> int:
    if isinstance(parsed, bytes):
        return msgspec.json.decode(parsed, type=_Time).event_time
    return parsed.event_time
