"""Files that cannot be used are refused with their name, the place and the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import EvaluationError
from models.evaluation.recsys2025.files import BUY, KINDS, Folder, rows
from tests.models.evaluation.recsys2025.small import EVENTS, write_events, write_small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small(tmp_path)


def read(folder: Path, name: str) -> list[tuple[int, int]]:
    kind = next(each for each in KINDS if each.name == name)
    parts = list(rows(folder / f"{name}.parquet", kind))
    return [
        pair
        for part in parts
        for pair in zip(part.client.tolist(), part.time.tolist(), strict=True)
    ]


def test_all_missing_files_are_named(folder: Path) -> None:
    (folder / "page_visit.parquet").unlink()
    (folder / "target" / "propensity_sku.npy").unlink()
    with pytest.raises(EvaluationError, match=r"no page_visit.parquet, target/propensity_sku.npy"):
        Folder.of(folder)


@pytest.mark.parametrize("name", list(EVENTS))
def test_times_without_a_zone_are_utc(folder: Path, name: str) -> None:
    expected = [
        (client, int(np.datetime64(when.replace(" ", "T"), "ms").astype(np.int64)))
        for client, when, _ in EVENTS[name]
    ]
    assert read(folder, name) == expected


def test_timestamps_of_the_split_script_are_read_too(folder: Path) -> None:
    text = read(folder, "product_buy")
    table = pq.read_table(folder / "product_buy.parquet")
    times = table["timestamp"].cast(pa.timestamp("ns"))
    changed = table.set_column(1, "timestamp", times)
    pq.write_table(changed, folder / "product_buy.parquet")
    assert read(folder, "product_buy") == text


@pytest.mark.parametrize(
    ("name", "column", "kind", "wanted"),
    [
        ("product_buy", "client_id", pa.string(), "int64"),
        ("product_buy", "sku", pa.float64(), "int64"),
        ("page_visit", "url", pa.string(), "int64"),
        ("page_visit", "timestamp", pa.binary(), "text or timestamp"),
        ("search_query", "query", pa.binary(), "text"),
    ],
)
def test_another_type_names_file_column_and_type(
    folder: Path, name: str, column: str, kind: pa.DataType, wanted: str
) -> None:
    path = folder / f"{name}.parquet"
    table = pq.read_table(path)
    place = table.schema.names.index(column)
    pq.write_table(table.set_column(place, column, table[column].cast(kind)), path)
    told = rf"{name}\.parquet: column {column} is of type {kind}, and {wanted} is needed"
    with pytest.raises(EvaluationError, match=told):
        read(folder, name)


def test_a_column_that_is_not_there_is_named(folder: Path) -> None:
    path = folder / "page_visit.parquet"
    pq.write_table(pq.read_table(path).rename_columns(["client_id", "timestamp", "page"]), path)
    with pytest.raises(
        EvaluationError, match=r"no column url; there are client_id, timestamp, page"
    ):
        read(folder, "page_visit")


@pytest.mark.parametrize("left", [0, 3, 400])
def test_a_truncated_file_is_named(folder: Path, left: int) -> None:
    path = folder / "product_buy.parquet"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(EvaluationError, match=r"product_buy\.parquet: .*truncated or damaged"):
        read(folder, "product_buy")


def test_damage_within_the_rows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "product_buy.parquet"
    many = [(1, "2022-01-10 10:00:00", number) for number in range(50_000)]
    write_events(tmp_path, "product_buy", many)
    content = bytearray(path.read_bytes())
    content[1_000:40_000] = bytes(39_000)
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"product_buy\.parquet: .*truncated or damaged"):
        read(tmp_path, "product_buy")


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("yesterday", "rows 0 to 1 hold a timestamp that is none .*yesterday"),
        ("1999-12-31 23:59:59", "row 1 has the time 1999-12-31T23:59:59"),
        ("2200-01-01 00:00:00", "row 1 has the time 2200-01-01"),
    ],
)
def test_an_impossible_time_names_its_row(folder: Path, when: str, told: str) -> None:
    write_events(folder, "product_buy", [(1, "2022-01-10 10:00:00", 100), (1, when, 100)])
    with pytest.raises(EvaluationError, match=told):
        read(folder, "product_buy")


def test_a_null_names_its_row(folder: Path) -> None:
    table = pa.table(
        {
            "client_id": pa.array([1, None], pa.int64()),
            "timestamp": ["2022-01-10 10:00:00"] * 2,
            "sku": [100, 100],
        }
    )
    pq.write_table(table, folder / "product_buy.parquet")
    with pytest.raises(EvaluationError, match="row 1 has no client_id"):
        list(rows(folder / "product_buy.parquet", BUY))


def test_rows_are_numbered_over_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.evaluation.recsys2025.files.BATCH_ROWS", 2)
    parts = list(rows(folder / "product_buy.parquet", BUY))
    assert [(part.first, len(part)) for part in parts] == [(0, 2), (2, 2), (4, 1)]


def test_python_objects_are_not_opened(folder: Path) -> None:
    path = folder / "target" / "propensity_sku.npy"
    np.save(path, np.array([1, 2], object), allow_pickle=True)
    with pytest.raises(EvaluationError, match="you trust its source") as refused:
        Folder.of(folder).ids("target/propensity_sku.npy")
    remedy = re.search(r'python -c "(.*)"', str(refused.value))
    assert remedy is not None
    monkey = remedy.group(1).replace("p = 'propensity_sku.npy'", f"p = {str(path)!r}")
    exec(monkey, {})  # noqa: S102  # the remedy of the message does what it says
    assert Folder.of(folder).ids("target/propensity_sku.npy").tolist() == [1, 2]


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.empty(0), np.array(["a"])])
def test_arrays_of_another_shape_or_kind_are_refused(folder: Path, wrong: np.ndarray) -> None:
    np.save(folder / "input" / "relevant_clients.npy", wrong)
    with pytest.raises(EvaluationError, match="one dimension of numbers is needed"):
        Folder.of(folder).ids("input/relevant_clients.npy")


def test_fractions_are_no_ids(folder: Path) -> None:
    np.save(folder / "input" / "relevant_clients.npy", np.array([1.5]))
    with pytest.raises(EvaluationError, match="holds fractions"):
        Folder.of(folder).ids("input/relevant_clients.npy")
