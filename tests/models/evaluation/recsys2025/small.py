"""A folder of the challenge with a few rows, written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Row = tuple[int, str, int | str]

QUERY = "[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 255]"
EVENTS: dict[str, list[Row]] = {
    "product_buy": [
        (1, "2022-01-10 10:00:00", 100),
        (2, "2022-02-06 00:00:00", 200),  # first second of the training window
        (1, "2022-02-19 23:59:59", 101),  # its last second
        (1, "2022-02-20 00:00:00", 200),  # first second of the evaluation window
        (3, "2022-03-05 12:00:00", 100),  # the end of the data
    ],
    "add_to_cart": [(1, "2022-02-05 23:59:59", 101), (9, "2022-01-05 00:00:00", 100)],
    "remove_from_cart": [(2, "2022-01-03 00:00:00", 200)],
    "page_visit": [(3, "2022-02-01 08:00:00", 77), (1, "2022-01-01 08:00:00", 78)],
    "search_query": [(3, "2022-02-02 08:00:00", QUERY)],
}
KEYS = {"page_visit": "url", "search_query": "query"}
PROPERTIES = {"sku": [100, 101, 200], "category": [5, 5, 6], "price": [10, 99, 0]}


def write_events(folder: Path, name: str, rows: list[Row]) -> None:
    """One file of events."""
    client, when, about = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"client_id": client, "timestamp": when, KEYS.get(name, "sku"): about})
    pq.write_table(table, folder / f"{name}.parquet")


def write_small(folder: Path) -> Path:
    """All files; clients 1 to 4 are relevant, 9 is not."""
    for name in ("input", "target"):
        (folder / name).mkdir()
    for name, rows in EVENTS.items():
        write_events(folder, name, rows)
    names = [QUERY] * len(PROPERTIES["sku"])
    pq.write_table(pa.table({**PROPERTIES, "name": names}), folder / "product_properties.parquet")
    np.save(folder / "input" / "relevant_clients.npy", np.array([4, 3, 2, 1]))
    for name, values in {"propensity_category": [6, 5], "propensity_sku": [200, 101]}.items():
        np.save(folder / "target" / f"{name}.npy", np.array(values))
        np.save(folder / "target" / f"popularity_{name}.npy", np.array([0.5, 0.25]))
    return folder
