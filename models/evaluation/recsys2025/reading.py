"""The files -> the product's event log of what is known, and what the clients bought afterwards.

One pass per file. Of the events only those of the relevant clients are kept: before the split in a
`Spool` on disk, by ranges of users, as the trainer reads logs. What carts and purchases say of the
labels is kept in memory beside it, because the log has hashes of items and categories, and two
categories may share one.

What an event becomes: a purchase, cart_add or cart_remove of an item and its category; a view or a
search without either, because a url is no item and a query is no text. No event has an amount
(the price is a bucket), an order id (there is none) or more than one unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data.points import mix
from models.encoding import hash64
from models.errors import EvaluationError
from models.evaluation.recsys2025.catalogue import Catalogue, Index
from models.evaluation.recsys2025.files import BUY, KINDS, RELEVANT, Folder, Kind, Rows, rows
from models.evaluation.recsys2025.windows import TEST, TRAIN, Windows
from models.history import I64, Events
from models.log.eventlog import EventLog
from models.log.spool import Spool

Bools = NDArray[np.bool_]

SPOOL_BITS: Final = 7
"""128 ranges of users: of 60 million kept events half a million are in memory at a time."""
_ROW_BITS: Final = np.uint64(40)


@dataclass(frozen=True)
class Clients:
    """The U relevant clients, ascending by client_id."""

    id: I64
    """[U] client_id."""
    hash: NDArray[np.uint64]
    """[U] of the id as the product's logs have it."""
    by_hash: Index
    """[U] clients ascending by hash."""

    @classmethod
    def of(cls, ids_N: I64) -> Clients:
        """The clients with these ids."""
        ids = np.unique(ids_N)
        hashes = np.array([hash64(str(each)) for each in ids.tolist()], np.uint64)
        return cls(ids, hashes, np.argsort(hashes))

    def __len__(self) -> int:
        return len(self.id)

    def place(self, client_N: I64) -> Index:
        """[N] index of each client_id, -1 for those who are not relevant."""
        at = np.minimum(np.searchsorted(self.id, client_N), len(self.id) - 1)
        return np.where(self.id[at] == client_N, at, -1)

    def place_of_hash(self, hash_N: NDArray[np.uint64]) -> Index:
        """[N] index of each hash, all of which are known."""
        return self.by_hash[np.searchsorted(self.hash, hash_N, sorter=self.by_hash)]


@dataclass(frozen=True)
class Interests:
    """M cart and purchase events of what has to do with a label, before the split."""

    row: NDArray[np.int32]
    """[M] client."""
    time: I64
    """[M] ms."""
    type: NDArray[np.uint8]
    """[M] type code."""
    category_label: NDArray[np.int16]
    """[M] label of the category, -1 for none."""
    sku_label: NDArray[np.int16]
    """[M] label of the sku, -1 for none."""
    group: NDArray[np.int16]
    """[M] see `Catalogue.group`."""


@dataclass(frozen=True)
class Bought:
    """The purchases of one window, as labels."""

    any: Bools
    """[U] whether the client bought something."""
    categories: tuple[I64, I64]
    """(client [P], label [P]) of the categories bought, each pair once."""
    skus: tuple[I64, I64]
    """Likewise of the skus."""


@dataclass
class Counts:
    """What a file had."""

    rows: int = 0
    kept: int = 0
    """Of relevant clients, before the split."""
    disordered: int = 0
    """Rows older than the one before them."""


@dataclass(frozen=True)
class Prepared:
    """All that the tasks need; the caller closes the spool."""

    windows: Windows
    catalogue: Catalogue
    clients: Clients
    spool: Spool
    interests: Interests
    bought: tuple[Bought, Bought]
    """Of the windows TRAIN and TEST."""
    known: Bools
    """[U] whether the client has an event before the split."""
    active: Bools
    """[U] whether the client has a purchase before the split."""
    counts: dict[str, Counts]
    """Kind of event -> what its file had."""

    @property
    def events(self) -> int:
        """Rows of all files."""
        return sum(each.rows for each in self.counts.values())


@dataclass
class _Taken:
    """What was taken so far, in pieces."""

    interests: list[tuple[NDArray[np.generic], ...]] = field(default_factory=list)
    bought: list[tuple[NDArray[np.generic], ...]] = field(default_factory=list)


def last_purchase(folder: Folder) -> int:
    """Time of the last purchase of anyone, ms: the challenge's end of the data.

    Raises:
        EvaluationError: there is none, or the file cannot be used.
    """
    path = folder.events(BUY)
    last = max((int(part.time.max()) for part in rows(path, BUY) if len(part)), default=0)
    if not last:
        raise EvaluationError(f"{path}: no purchase in it: nothing can be evaluated")
    return last


def prepare(folder: Folder, spool: Spool) -> Prepared:
    """Read all files.

    Args:
        folder: the challenge's.
        spool: takes the events before the split.

    Raises:
        EvaluationError: a file cannot be used, an event names a sku without properties, or nothing
            is known of any client.
    """
    windows = Windows.before(last_purchase(folder))
    catalogue = Catalogue.of(folder)
    clients = Clients.of(folder.ids(RELEVANT))
    known, active = np.zeros(len(clients), np.bool_), np.zeros(len(clients), np.bool_)
    taken = _Taken()
    counts = {}
    for kind in KINDS:
        count = counts[kind.name] = Counts()
        newest = 0
        for part in rows(folder.events(kind), kind):
            if not len(part):
                continue
            product = _products(folder.events(kind), part, catalogue) if kind.has_item else None
            count.rows += len(part)
            count.disordered += int((np.diff(part.time, prepend=newest) < 0).sum())
            newest = int(part.time[-1])
            client = clients.place(part.client)
            if kind is BUY:
                _take_labels(taken, part, client, product, windows)
            before = np.flatnonzero((client >= 0) & (part.time < windows.cut))
            known[client[before]] = True
            if kind is BUY:
                active[client[before]] = True
            if product is not None:
                _take_interests(
                    taken, kind, part.time[before], client[before], product[before], catalogue
                )
            spool.append(_log(kind, part, before, client, product, clients, catalogue, count.kept))
            count.kept += len(before)
    if not known.any():
        raise EvaluationError(
            f"{folder.path}: no relevant client has an event before {windows.cut} ms; the files "
            f"span less than {2 * (windows.middle - windows.cut) // 86_400_000} days, or "
            f"{RELEVANT} is of another release"
        )
    return Prepared(
        windows=windows,
        catalogue=catalogue,
        clients=clients,
        spool=spool,
        interests=_interests(taken),
        bought=(
            _bought(taken, TRAIN, clients, catalogue),
            _bought(taken, TEST, clients, catalogue),
        ),
        known=known,
        active=active,
        counts=counts,
    )


def _products(path: Path, part: Rows, catalogue: Catalogue) -> Index:
    found = catalogue.products.place(part.sku)
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        row = int(unknown[0])
        raise EvaluationError(
            f"{path}: row {part.first + row} names sku {part.sku[row]}, of which "
            "product_properties.parquet knows nothing; take both files from one release"
        )
    return found


def _log(
    kind: Kind,
    part: Rows,
    chosen: Index,
    client: Index,
    product: Index | None,
    clients: Clients,
    catalogue: Catalogue,
    earlier: int,
) -> EventLog:
    """The chosen rows as events of the product, of which the kind has `earlier` ones.

    Ids, which order events of one second, count what is kept: where rows of the windows lie between
    rows that are known, the order of these does not depend on them.
    """
    size = len(chosen)
    number = np.uint64(KINDS.index(kind) + 1) << _ROW_BITS
    events = Events(
        time=part.time[chosen],
        id=mix(number + np.arange(earlier, earlier + size, dtype=np.uint64)),
        type=np.full(size, kind.type, np.uint8),
        item=np.zeros(size, np.uint32),
        category=np.zeros(size, np.uint16),
        amount=np.zeros(size, np.int64),
        order=np.zeros(size, np.uint32),
        quantity=np.ones(size, np.uint32),
    )
    if product is not None:
        events.item = catalogue.products.item_code[product[chosen]]
        events.category = catalogue.products.category_code[product[chosen]]
    return EventLog(clients.hash[client[chosen]], events)


def _take_interests(
    taken: _Taken, kind: Kind, time: I64, client: Index, product: Index, catalogue: Catalogue
) -> None:
    labels = (catalogue.category_label, catalogue.sku_label, catalogue.group)
    category, sku, group = (label[product] for label in labels)
    some = np.flatnonzero((category >= 0) | (sku >= 0) | (group >= 0))
    columns = client[some].astype(np.int32), time[some], np.full(len(some), kind.type, np.uint8)
    taken.interests.append((*columns, category[some], sku[some], group[some]))


def _take_labels(
    taken: _Taken, part: Rows, client: Index, product: Index | None, windows: Windows
) -> None:
    assert product is not None  # noqa: S101  # a purchase names an item
    window = windows.of(part.time)
    chosen = np.flatnonzero((client >= 0) & (window >= 0))
    taken.bought.append((window[chosen], client[chosen], product[chosen]))


def _interests(taken: _Taken) -> Interests:
    kinds = (np.int32, np.int64, np.uint8, np.int16, np.int16, np.int16)
    columns = zip(*taken.interests, strict=True) if taken.interests else ((),) * len(kinds)
    joined = [
        np.concatenate(column) if column else np.empty(0, kind)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    return Interests(*joined)


def _bought(taken: _Taken, which: int, clients: Clients, catalogue: Catalogue) -> Bought:
    window, client, product = (
        np.concatenate([part[place] for part in taken.bought]) for place in range(3)
    )
    mine = window == which
    client, product = client[mine], product[mine]
    some = np.zeros(len(clients), np.bool_)
    some[client] = True
    pairs = (
        _pairs(client, label[product], size)
        for label, size in (
            (catalogue.category_label, len(catalogue.categories)),
            (catalogue.sku_label, len(catalogue.skus)),
        )
    )
    categories, skus = pairs
    return Bought(some, categories, skus)


def _pairs(client: Index, label: NDArray[np.int16], size: int) -> tuple[I64, I64]:
    """Each (client, label) once."""
    labelled = label >= 0
    key = np.unique(client[labelled].astype(np.int64) * size + label[labelled])
    return key // size, key % size
