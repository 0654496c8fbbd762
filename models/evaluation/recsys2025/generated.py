"""Files of the challenge's shape and quantiles, with something in them to be learnt.

Events per client follow the quantiles of the real files (median 2, mean 9.4, p99 119, at most
36,004), which a log-normal distribution with the same median and 99th percentile has; kinds of
events have the shares of the README of Synerise/recsys2025 at e91c1a6 (168,900,513 events in all).

What there is to learn: a client shops during a stretch of time of their own, in sessions, and has
few categories; who was seen lately comes back, and buys what was in the cart. Nothing else of the
real files is claimed. Memory is bounded by a block of clients.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.evaluation.recsys2025.files import ACTIVE, BUY, KINDS, PROPERTIES, RELEVANT, Kind
from models.evaluation.recsys2025.windows import DAY, TRAIN, Windows
from models.history import I64

MEDIAN: Final = 2.0
SIGMA: Final = 1.757
"""Of the logarithm: ln(119 / 2) over the normal distribution's 99th percentile."""
MOST: Final = 36_004
EVENTS: Final = {
    "product_buy": 1_682_296,
    "add_to_cart": 5_235_882,
    "remove_from_cart": 1_697_891,
    "page_visit": 150_713_186,
    "search_query": 9_571_258,
}
"""Of the real files."""
DAYS: Final = 140
START: Final = 1_656_028_800_000
"""2022-06-24, ms."""
LABELS: Final = 100
BLOCK: Final = 100_000
"""Clients at a time."""
FAVOURITES: Final = 3
LOYALTY: Final = 0.8
"""Share of a client's items that are of their own categories."""
QUERIES: Final = 5_000
SESSION_EVENTS: Final = 8
HOUR: Final = 3_600_000

Rng = np.random.Generator


@dataclass(frozen=True)
class Plan:
    """How much is generated."""

    events: int
    """About so many, of all clients."""
    relevant_share: float = 1 / 18
    """Share of the clients who are relevant; those of more events are likelier to be."""
    categories: int = 400
    skus: int = 20_000
    heaviest: bool = True
    """Whether one client has as many events as the heaviest of the real files."""
    seed: int = 0


@dataclass
class _Clients:
    """C clients of a block."""

    id: I64
    first: I64
    """[C] when the client came first, ms."""
    life: I64
    """[C] for how long the client shops, ms."""
    favourites: I64
    """[C, FAVOURITES] categories."""
    eager: NDArray[np.float64]
    """[C] how much likelier than others to buy."""


def events_per_client(rng: Rng, clients: int) -> I64:
    """Events of each client, at least 1, with the quantiles of the real files."""
    drawn = np.exp(np.log(MEDIAN) + SIGMA * rng.standard_normal(clients))
    found: I64 = np.clip(np.rint(drawn), 1, MOST).astype(np.int64)
    return found


def write(folder: Path, plan: Plan) -> None:
    """Write all files of the challenge into `folder`."""
    rng = np.random.default_rng(plan.seed)
    for name in ("input", "target"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    category = rng.zipf(1.3, plan.skus) % plan.categories
    _table(folder / PROPERTIES, _properties(rng, category))
    by_category = np.argsort(category, kind="stable")
    edges = np.searchsorted(category[by_category], np.arange(plan.categories + 1))
    popular = np.bincount(category, minlength=plan.categories).astype(np.float64)
    mean = MEDIAN * np.exp(SIGMA**2 / 2)
    sizes = events_per_client(rng, max(round(plan.events / mean), 1))
    if plan.heaviest:
        sizes[rng.integers(len(sizes))] = MOST
    ids = rng.choice(30 * len(sizes), len(sizes), replace=False)
    bought: list[tuple[I64, I64, I64]] = []
    with contextlib.ExitStack() as stack:
        writers = {
            kind: stack.enter_context(
                pq.ParquetWriter(folder / f"{kind.name}.parquet", _schema(kind))
            )
            for kind in KINDS
        }
        for start in range(0, len(sizes), BLOCK):
            part = slice(start, start + BLOCK)
            clients = _clients(rng, ids[part], popular)
            columns = _events(rng, clients, sizes[part], by_category, edges)
            for number, kind in enumerate(KINDS):
                mine = np.flatnonzero(columns[0] == number)
                client, when, sku = (column[mine] for column in columns[1:])
                writers[kind].write_table(_rows(rng, kind, client, when, sku))
                if kind is BUY:
                    bought.append((client, when, sku))
    client, when, sku = (np.concatenate([each[place] for each in bought]) for place in range(3))
    _targets(folder, client, when, sku, category)
    weight = np.minimum(sizes, 20) / np.minimum(sizes, 20).sum()
    count = max(round(plan.relevant_share * len(ids)), 1)
    relevant = np.sort(rng.choice(ids, count, replace=False, p=weight))
    np.save(folder / RELEVANT, relevant)
    np.save(folder / ACTIVE, np.intersect1d(relevant, client))


def _properties(rng: Rng, category: I64) -> dict[str, Any]:
    size = len(category)
    return {
        "sku": np.arange(size, dtype=np.int64),
        "category": category.astype(np.int64),
        "price": rng.integers(0, 100, size),
        "name": _embeddings(rng, 500)[rng.integers(0, 500, size)],
    }


def _embeddings(rng: Rng, count: int) -> NDArray[np.object_]:
    """Texts of 16 numbers in brackets."""
    numbers = rng.integers(0, 256, (count, 16)).tolist()
    return np.array([f"[{' '.join(map(str, row))}]" for row in numbers], object)


def _clients(rng: Rng, ids: I64, popular: NDArray[np.float64]) -> _Clients:
    size = len(ids)
    favourites = rng.choice(len(popular), (size, FAVOURITES), p=popular / popular.sum())
    return _Clients(
        id=ids,
        first=START + (rng.beta(1.0, 1.2, size) * DAYS * DAY).astype(np.int64),
        life=(rng.exponential(30, size) * DAY).astype(np.int64) + HOUR,
        favourites=favourites,
        eager=rng.gamma(0.5, 2.0, size),
    )


def _events(
    rng: Rng, clients: _Clients, sizes: I64, by_category: NDArray[np.intp], edges: NDArray[np.intp]
) -> tuple[I64, I64, I64, I64]:
    """(kind, client_id, ms, sku) of the events of a block, in no order of time."""
    who = np.repeat(np.arange(len(sizes)), sizes)
    size = len(who)
    # Events of a client fall into sessions, whose times are spread over the client's stretch.
    within = np.arange(size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    session = np.cumsum((within % SESSION_EVENTS == 0).astype(np.int64)) - 1
    share = rng.random(session[-1] + 1)[session]
    span = np.minimum(clients.life, START + DAYS * DAY - clients.first)[who]
    when = clients.first[who] + (share * span).astype(np.int64)
    when += rng.exponential(3 * 60_000, size).astype(np.int64)
    when = np.minimum(when, START + DAYS * DAY - 1000) // 1000 * 1000
    rates = np.array([EVENTS[kind.name] for kind in KINDS], np.float64)
    rates /= rates.sum()
    chance = rates * np.where(np.arange(len(KINDS)) < 3, clients.eager[:, None], 1.0)  # noqa: PLR2004  # kinds with items
    chance[:, 3] += 1 - chance.sum(axis=1)  # the rest is visits
    chance = np.maximum(chance, 0)
    edge = np.cumsum(chance / chance.sum(axis=1, keepdims=True), axis=1)[who]
    kind = (rng.random(size)[:, None] > edge[:, :-1]).sum(axis=1)
    own = clients.favourites[who, rng.integers(0, FAVOURITES, size)]
    any_sku = by_category[(rng.random(size) ** 2 * len(by_category)).astype(np.int64)]
    room = edges[own + 1] - edges[own]
    inside = edges[own] + (rng.random(size) ** 3 * room).astype(np.int64)
    mine = (rng.random(size) < LOYALTY) & (room > 0)
    sku = np.where(mine, by_category[np.minimum(inside, len(by_category) - 1)], any_sku)
    return kind, clients.id[who], when, sku


def _schema(kind: Kind) -> pa.Schema:
    key = pa.string() if kind.key == "query" else pa.int64()
    return pa.schema([("client_id", pa.int64()), ("timestamp", pa.string()), (kind.key, key)])


def _rows(rng: Rng, kind: Kind, client: I64, when: I64, sku: I64) -> pa.Table:
    if kind.key == "sku":
        about: Any = pa.array(sku.astype(np.int64))
    elif kind.key == "url":
        about = pa.array((rng.zipf(1.4, len(client)) % 1_000_000).astype(np.int64))
    else:
        chosen = pa.array(rng.integers(0, QUERIES, len(client)).astype(np.int32))
        texts = pa.array(_embeddings(np.random.default_rng(7), QUERIES).tolist())
        about = pa.DictionaryArray.from_arrays(chosen, texts).dictionary_decode()
    stamp = pa.array(when // 1000).cast(pa.timestamp("s"))
    text = pa.compute.strftime(stamp, format="%Y-%m-%d %H:%M:%S")
    columns = [pa.array(client.astype(np.int64)), text, about]
    return pa.Table.from_arrays(columns, schema=_schema(kind))


def _targets(folder: Path, client: I64, when: I64, sku: I64, category: I64) -> None:
    """The labels: what was bought most in the training window; popularity is its share."""
    windows = Windows.before(int(when.max()))
    mine = windows.of(when) == TRAIN
    values = {"propensity_category": category[sku[mine]], "propensity_sku": sku[mine]}
    for name, bought in values.items():
        found, times = np.unique(bought, return_counts=True)
        best = np.argsort(-times, kind="stable")[:LABELS]
        np.save(folder / "target" / f"{name}.npy", found[best].astype(np.int64))
        np.save(folder / "target" / f"popularity_{name}.npy", times[best] / len(client))


def _table(path: Path, columns: dict[str, Any]) -> None:
    pq.write_table(pa.table({name: pa.array(each) for name, each in columns.items()}), path)
