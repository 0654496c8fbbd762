"""Turn a CSV file of your shop into events, one JSON object a line, ready for `produce`.

python examples/csv_to_events.py orders.csv --user customer --time ordered_at --type purchase \
    --field order_id=order --field item_id=sku --field quantity=units > events.jsonl
intentstream produce events.jsonl --format jsonl

--type is the type of all lines (purchase), or with --type-column the column that holds it, where
--rename maps your words: --rename bought=purchase. --field NAME=COLUMN takes a field of the event
from a column; empty cells are left out. Times are ISO 8601, Unix seconds or Unix milliseconds; a
time without an offset is of --timezone.

The id of an event is the file's name and the line, so a file that is sent twice counts once.
Another export needs another name: under the same one events may be refused (id_reused).
"""

from __future__ import annotations

import argparse
import codecs
import csv
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

NUMBERS = {"price": float, "quantity": int, "order_discount": float, "tax": float}
SECONDS_BELOW = 100_000_000_000
"""A bare number below this is seconds since 1970, any other is milliseconds."""


def milliseconds(text: str, zone: tzinfo) -> int:
    """Read a time as integer milliseconds since 1970, UTC."""
    if text.isdecimal():
        number = int(text)
        return number * 1000 if number < SECONDS_BELOW else number
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return round(moment.timestamp() * 1000)


def event(row: dict[str, str], event_id: str, options: argparse.Namespace) -> dict[str, Any]:
    """Make the event of a line."""
    kind = row[options.type_column] if options.type_column else options.type
    made: dict[str, Any] = {
        "type": options.rename.get(kind, kind),
        "event_id": event_id,
        "user_id": row[options.user],
        "event_time": milliseconds(row[options.time], options.timezone),
    }
    for name, column in options.field.items():
        if row[column]:
            made[name] = NUMBERS.get(name, str)(row[column])
    return made


def events(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the events of the file; a line that gives none ends the program with its number."""
    try:
        yield from read(options)
    except OSError as error:
        raise SystemExit(f"{options.file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SystemExit(f"{options.file} is no UTF-8: name its --encoding, e.g. cp1252") from None


def read(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the events of the file."""
    with options.file.open(encoding=options.encoding, newline="") as source:
        rows = csv.DictReader(source, delimiter=options.separator, restval="")
        wanted = {options.user, options.time, *options.field.values()}
        missing = sorted((wanted | {options.type_column} - {None}) - set(rows.fieldnames or ()))
        if missing:
            raise SystemExit(f"{options.file}, line 1: no column {', '.join(missing)}")
        for row in rows:
            try:
                yield event(row, f"{options.file.stem}-{rows.line_num}", options)
            except (ValueError, TypeError) as error:
                raise SystemExit(f"{options.file}, line {rows.line_num}: {error}") from None


def pair(text: str) -> tuple[str, str]:
    """Read NAME=COLUMN."""
    name, sign, column = text.partition("=")
    if not sign or not name or not column:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COLUMN")
    return name, column


def zone(text: str) -> ZoneInfo:
    """Read the name of a time zone."""
    try:
        return ZoneInfo(text)
    except (KeyError, OSError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time zone, e.g. Europe/Berlin") from None


def encoding(text: str) -> str:
    """Read the name of an encoding."""
    try:
        return codecs.lookup(text).name
    except LookupError:
        raise argparse.ArgumentTypeError(f"{text!r} is no encoding, e.g. cp1252") from None


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--user", required=True, metavar="COLUMN")
    parser.add_argument("--time", required=True, metavar="COLUMN")
    parser.add_argument("--type", default="purchase")
    parser.add_argument("--type-column", metavar="COLUMN")
    parser.add_argument("--rename", type=pair, action="append", default=[], metavar="YOURS=TYPE")
    parser.add_argument("--field", type=pair, action="append", default=[], metavar="NAME=COLUMN")
    parser.add_argument("--timezone", type=zone, default=UTC, metavar="Europe/Berlin")
    parser.add_argument("--encoding", type=encoding, default="utf-8-sig", metavar="cp1252")
    parser.add_argument("--separator", default=",")
    options = parser.parse_args(arguments)
    options.field, options.rename = dict(options.field), dict(options.rename)
    return options


def main() -> None:
    """Write the events to standard output."""
    options = parse()
    for made in events(options):
        json.dump(made, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
