"""Columns of events: what is valid comes through as one by one, what is not is counted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.encoding import category_code, columns, encode_event, hash64, item_code
from models.errors import DatasetError
from models.log.columnar import read_parquet
from models.log.eventlog import EventLog
from models.log.names import catalogue
from schemas.codec import decode_event, encode
from schemas.events import MAX_TIME

GOOD: dict[str, Any] = {
    "event_id": "e1",
    "type": "purchase",
    "user_id": "u1",
    "event_time": 1_600_000_000_000,
    "item_id": "i1",
    "category_id": None,
    "price": 2.5,
    "quantity": 3,
}


def read(path: Path, rows: list[dict[str, Any]]) -> tuple[EventLog, dict[str, int]]:
    pq.write_table(pa.Table.from_pylist(rows), path)
    invalid: dict[str, int] = {}
    return EventLog.join(list(read_parquet(path, invalid))), invalid


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event_id": None}, "null_value (event_id)"),
        ({"user_id": ""}, "out_of_range (user_id)"),
        ({"user_id": "x" * 257}, "out_of_range (user_id)"),
        ({"type": "gaze"}, "unknown_type (type)"),
        ({"event_time": 0}, "out_of_range (event_time)"),
        ({"event_time": MAX_TIME + 1}, "out_of_range (event_time)"),
        ({"price": -1.0}, "out_of_range (price)"),
        ({"price": float("nan")}, "out_of_range (price)"),
        ({"price": 1e9, "quantity": 10**6}, "out_of_range (price)"),
        ({"quantity": 0}, "out_of_range (quantity)"),
    ],
)
def test_rows_that_are_no_event_are_counted(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    log, invalid = read(tmp_path / "f.parquet", [GOOD, GOOD | change])
    assert invalid == {reason: 1}
    assert log.users.tolist() == [hash64("u1")]
    assert log.events.amount.tolist() == [75_000]


def test_columns_equal_events_one_by_one(tmp_path: Path) -> None:
    rows = [
        GOOD,
        GOOD | {"event_id": "e2", "type": "view", "item_id": None, "price": None},
        GOOD | {"event_id": "e3", "category_id": "c", "quantity": None, "price": 0.00005},
        GOOD | {"event_id": "e4", "price": 33.33333, "quantity": 999},
    ]
    log, invalid = read(tmp_path / "f.parquet", rows)
    assert invalid == {}
    events = [decode_event(encode({k: v for k, v in row.items() if v is not None})) for row in rows]
    expected = columns([encode_event(event) for event in events])
    for name in expected.__slots__:
        ours, theirs = getattr(log.events, name), getattr(expected, name)
        assert np.array_equal(ours, theirs), name


def test_timestamps_and_few_columns_do(tmp_path: Path) -> None:
    moment = datetime(2020, 1, 2, tzinfo=UTC)
    row = {"event_id": "e", "type": "view", "user_id": "u", "event_time": moment}
    log, invalid = read(tmp_path / "f.parquet", [row])
    assert (log.events.time.tolist(), invalid) == ([1_577_923_200_000], {})


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read .*nowhere"):
        list(read_parquet(tmp_path / "nowhere", {}))
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 and no more")
    with pytest.raises(DatasetError, match="as Parquet"):
        list(read_parquet(bad, {}))
    pq.write_table(pa.table({"type": ["view"]}), bad)
    with pytest.raises(DatasetError, match="no column event_id, user_id, event_time"):
        list(read_parquet(bad, {}))


def test_names_are_taken_note_of_whatever_the_column_is(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    good = {**GOOD, "item_id": 17, "category_id": "shoes"}
    table = pa.Table.from_pylist(
        [good | {"event_id": None, "item_id": 3}, good, good | {"category_id": None}, good]
    )
    packed = table["category_id"].dictionary_encode()
    place = table.schema.get_field_index("category_id")
    pq.write_table(table.set_column(place, "category_id", packed), path)
    names = catalogue(("category", "item"))
    list(read_parquet(path, {}, names=names))
    assert names["item"].rows() == [(item_code("17"), 3, "17")]
    assert names["category"].rows() == [(category_code("shoes"), 2, "shoes")]


def test_of_a_file_without_the_column_there_are_no_names(tmp_path: Path) -> None:
    row = {"event_id": "e", "type": "view", "user_id": "u", "event_time": 5}
    path = tmp_path / "f.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    names = catalogue(("item",))
    assert len(list(read_parquet(path, {}, names=names))) == 1
    assert names["item"].rows() == []
