"""Generated files have the quantiles, the shares and the shape of the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.evaluation.recsys2025.files import BUY, KINDS, Folder
from models.evaluation.recsys2025.generated import EVENTS, MOST, Plan, events_per_client, write

pytestmark = pytest.mark.slow


def test_events_per_client_have_the_quantiles_of_the_real_files() -> None:
    sizes = events_per_client(np.random.default_rng(0), 2_000_000)
    assert np.median(sizes) == 2
    assert sizes.mean() == pytest.approx(9.4, rel=0.05)
    assert np.quantile(sizes, 0.99) == pytest.approx(119, rel=0.05)
    assert 10_000 < sizes.max() <= MOST


def test_the_files_have_the_shares_of_kinds_and_the_heaviest_client(tmp_path: Path) -> None:
    write(tmp_path, Plan(300_000))
    clients = {
        kind.name: pq.read_table(tmp_path / f"{kind.name}.parquet")["client_id"].to_numpy()
        for kind in KINDS
    }
    whole = sum(map(len, clients.values()))
    assert whole == pytest.approx(300_000 + MOST, rel=0.1)
    for name, of_kind in clients.items():
        real = EVENTS[name] / sum(EVENTS.values())
        assert len(of_kind) / whole == pytest.approx(real, rel=0.15), name
    assert len(clients[BUY.name]) / whole == pytest.approx(0.01, abs=0.002)
    _, sizes = np.unique(np.concatenate(list(clients.values())), return_counts=True)
    assert np.median(sizes) == 2
    assert sizes.max() == MOST


def test_the_types_are_those_of_the_challenge(generated: Path) -> None:
    found = {
        path.stem: {field.name: str(field.type) for field in pq.read_schema(path)}
        for path in generated.glob("*.parquet")
    }
    item = {"client_id": "int64", "timestamp": "string", "sku": "int64"}
    assert found == {
        "product_buy": item,
        "add_to_cart": item,
        "remove_from_cart": item,
        "page_visit": {"client_id": "int64", "timestamp": "string", "url": "int64"},
        "search_query": {"client_id": "int64", "timestamp": "string", "query": "string"},
        "product_properties": {
            "sku": "int64",
            "category": "int64",
            "price": "int64",
            "name": "string",
        },
    }
    query = pq.read_table(generated / "search_query.parquet")["query"][0].as_py()
    assert query.startswith("[")
    assert query.endswith("]")
    assert len([int(each) for each in query[1:-1].split()]) == 16
    price = pq.read_table(generated / "product_properties.parquet")["price"].to_numpy()
    assert price.min() >= 0
    assert price.max() < 100
    Folder.of(generated)


def test_one_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path) -> None:
    tables = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / name, Plan(2_000, seed=seed, heaviest=False, skus=200, categories=20))
        tables.append(pq.read_table(tmp_path / name / "product_buy.parquet"))
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]
