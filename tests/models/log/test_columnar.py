"""Columns of events: what is valid comes through as one by one, what is not is counted."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
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
    "order_discount": None,
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
        ({"price": float("inf")}, "out_of_range (price)"),
        ({"order_discount": -1.0}, "out_of_range (order_discount)"),
        ({"order_discount": 2e9}, "out_of_range (order_discount)"),
        ({"user_id": "NaN"}, "null_value (user_id)"),
        (
            {"event_time": 1_600_000_000_000_000},
            "out_of_range (event_time): looks like microseconds",
        ),
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
        GOOD | {"event_id": "e4", "price": 33.33333, "quantity": 999, "order_discount": 0.33},
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


TIME = 1_600_000_000_000
WHEN = datetime.fromtimestamp(TIME / 1000, UTC)
DAY = date(2020, 9, 13)


def write(path: Path, **columns: Any) -> Path:
    """Three good rows, with these columns in place of theirs."""
    rows: dict[str, Any] = {
        "event_id": ["e1", "e2", "e3"],
        "type": ["view", "view", "purchase"],
        "user_id": ["u1", "u2", "u3"],
        "event_time": [TIME] * 3,
    }
    pq.write_table(pa.table(rows | columns), path)
    return path


def all_of(path: Path) -> tuple[EventLog, dict[str, int]]:
    invalid: dict[str, int] = {}
    return EventLog.join(list(read_parquet(path, invalid))), invalid


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([WHEN] * 3, pa.timestamp("us")), TIME),
        (pa.array([WHEN] * 3, pa.timestamp("ns", "Asia/Tokyo")), TIME),
        (pa.array([WHEN] * 3, pa.timestamp("s", "UTC")), TIME),
        (pa.array([DAY] * 3), TIME - TIME % 86_400_000),
        (pa.array([DAY] * 3, pa.date64()), TIME - TIME % 86_400_000),
        (pa.array(["2020-09-13T12:26:40Z"] * 3), TIME),
        (pa.array(["2020-09-13 14:26:40.000+02:00"] * 3).dictionary_encode(), TIME),
        (pa.array([str(TIME)] * 3, pa.large_string()), TIME),
        (pa.array([TIME + 0.25] * 3), TIME),
        (pa.array([Decimal(TIME)] * 3), TIME),
        (pa.array([TIME] * 3, pa.uint64()), TIME),
    ],
    ids=str,
)
def test_times_of_every_type_are_read(tmp_path: Path, times: Any, expected: int) -> None:
    log, invalid = all_of(write(tmp_path / "f.parquet", event_time=times))
    assert (log.events.time.tolist(), invalid) == ([expected] * 3, {})


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (pa.array([10**18 + 1, 10**18 + 2, 7]), [str(10**18 + 1), str(10**18 + 2), "7"]),
        (pa.array([5.410000000001e12, 2.0, 7.0]), ["5410000000001", "2", "7"]),
        (pa.array([1, 2, 7], pa.float32()), ["1", "2", "7"]),
        (pa.array([Decimal(10**20), Decimal(2), Decimal(7)]), [str(10**20), "2", "7"]),
        (pa.array(["a", "b", "c"]).dictionary_encode(), ["a", "b", "c"]),
        (pa.array(["a", "b", "c"], pa.large_string()), ["a", "b", "c"]),
        (pa.array([uuid.UUID(int=n + 1).bytes for n in range(3)], pa.uuid()), None),
    ],
    ids=str,
)
def test_ids_of_every_type_are_exact(tmp_path: Path, ids: Any, names: list[str] | None) -> None:
    log, invalid = all_of(write(tmp_path / "f.parquet", user_id=ids))
    expected = names or [str(uuid.UUID(int=n + 1)) for n in range(3)]
    assert (log.users.tolist(), invalid) == ([hash64(name) for name in expected], {})


def test_a_missing_price_or_user_is_absent(tmp_path: Path) -> None:
    nan = float("nan")
    path = write(
        tmp_path / "f.parquet",
        price=[nan, 2.5, None],
        quantity=[nan, 2.0, None],
        user_id=[5.0, nan, 6.0],
    )
    log, invalid = all_of(path)
    assert log.users.tolist() == [hash64("5"), hash64("6")]
    assert log.events.amount.tolist() == [0, 0]
    assert invalid == {"null_value (user_id)": 1}


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [1.8e18, 1.8e18 + 512, 3.0], "lost digits .*int64 or text"),
        ("user_id", pa.array([2**24] * 3, pa.float32()), "of type float .*lost digits"),
        ("item_id", [1.5, 2.0, 3.0], "of type double .*fractions"),
        ("user_id", [[1], [2], [3]], "of type list.* an id is text or a whole number"),
        ("user_id", [True, False, True], "of type bool"),
        ("event_time", pa.array([1, 2, 3], pa.time32("s")), "of type time32.* timestamp or an ISO"),
        ("price", ["1,5", "2", "3"], "of type string .*numbers, with a decimal point"),
        ("price", [{"eur": 1.0}] * 3, "of type struct"),
        ("quantity", ["two", "2", "3"], "whole numbers"),
    ],
)
def test_columns_that_hold_no_such_values_are_named(
    tmp_path: Path, column: str, values: Any, message: str
) -> None:
    path = write(tmp_path / "f.parquet", **{column: values})
    with pytest.raises(DatasetError, match=f"f.parquet: column {column} .*{message}"):
        all_of(path)


def test_times_that_are_none_are_counted(tmp_path: Path) -> None:
    log, invalid = all_of(write(tmp_path / "f.parquet", event_time=["soon", None, str(TIME)]))
    assert len(log) == 1
    assert invalid == {"wrong_type (event_time)": 1, "null_value (event_time)": 1}


def test_money_as_decimals_and_nested_properties(tmp_path: Path) -> None:
    path = write(
        tmp_path / "f.parquet",
        price=[Decimal("2.50"), None, Decimal("1.25")],
        quantity=pa.array([1, 2, 3], pa.uint8()),
        properties=[{"price": "x"}] * 3,
    )
    log, invalid = all_of(path)
    assert (log.events.amount.tolist(), invalid) == ([25_000, 0, 37_500], {})


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "f.parquet"))
    pq.write_table(table.append_column("user_id", table["user_id"]), tmp_path / "f.parquet")
    with pytest.raises(DatasetError, match="column user_id is there twice"):
        all_of(tmp_path / "f.parquet")
