"""Files -> the product's event log of what is known, and labels of what came after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.encoding import category_code, hash64, item_code
from models.errors import EvaluationError
from models.evaluation.recsys2025.files import Folder
from models.evaluation.recsys2025.reading import Prepared, last_purchase, prepare
from models.evaluation.recsys2025.windows import TEST, TRAIN
from models.log.eventlog import EventLog
from models.log.spool import Spool
from schemas.events import TYPE_CODES
from tests.models.evaluation.recsys2025.small import EVENTS, write_events, write_small

NAMES = {code: name for name, code in TYPE_CODES.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small(tmp_path)


@pytest.fixture
def spool() -> Iterator[Spool]:
    with Spool(bits=2) as made:
        yield made


def events_of(spool: Spool, client: int) -> list[tuple[str, str, int, int]]:
    """(time, type, item, category) of a client's events, by time."""
    log = EventLog.join(list(spool.parts()))
    mine = log.where(log.users == hash64(str(client)))
    events = mine.events
    return sorted(
        (str(np.datetime64(int(when), "ms"))[:16], NAMES[int(kind)], int(item), int(category))
        for when, kind, item, category in zip(
            events.time, events.type, events.item, events.category, strict=True
        )
    )


def true_pairs(prepared: Prepared, which: int, what: str) -> set[tuple[int, int]]:
    """(client_id, category or sku) bought in a window."""
    labels = getattr(prepared.catalogue, "categories" if what == "categories" else "skus")
    row, label = getattr(prepared.bought[which], what)
    clients = prepared.clients.id[row].tolist()
    return set(zip(clients, labels.names[label].tolist(), strict=True))


def test_events_before_the_split_become_the_products_events(folder: Path, spool: Spool) -> None:
    prepare(Folder.of(folder), spool)
    codes = {sku: item_code(str(sku)) for sku in (100, 101, 200)}
    five, six = category_code("5"), category_code("6")
    assert events_of(spool, 1) == [
        ("2022-01-01T08:00", "view", 0, 0),
        ("2022-01-10T10:00", "purchase", codes[100], five),
        ("2022-02-05T23:59", "cart_add", codes[101], five),
    ]
    assert events_of(spool, 2) == [("2022-01-03T00:00", "cart_remove", codes[200], six)]
    assert events_of(spool, 3) == [
        ("2022-02-01T08:00", "view", 0, 0),
        ("2022-02-02T08:00", "search", 0, 0),
    ]
    assert events_of(spool, 9) == []  # is not relevant


def test_no_event_has_an_amount_an_order_or_another_id_twice(folder: Path, spool: Spool) -> None:
    prepare(Folder.of(folder), spool)
    events = EventLog.join(list(spool.parts())).events
    assert not events.amount.any()
    assert not events.order.any()
    assert (events.quantity == 1).all()
    assert len(np.unique(events.id)) == len(events)


def test_labels_are_what_was_bought_in_each_window(folder: Path, spool: Spool) -> None:
    prepared = prepare(Folder.of(folder), spool)
    assert true_pairs(prepared, TRAIN, "categories") == {(2, 6), (1, 5)}
    assert true_pairs(prepared, TRAIN, "skus") == {(2, 200), (1, 101)}
    assert true_pairs(prepared, TEST, "categories") == {(1, 6), (3, 5)}
    assert true_pairs(prepared, TEST, "skus") == {(1, 200)}  # 100 is no label
    assert prepared.clients.id.tolist() == [1, 2, 3, 4]
    assert prepared.bought[TRAIN].any.tolist() == [True, True, False, False]
    assert prepared.bought[TEST].any.tolist() == [True, False, True, False]
    assert prepared.known.tolist() == [True, True, True, False]
    assert prepared.active.tolist() == [True, False, False, False]


def test_interests_are_of_labels_before_the_split(folder: Path, spool: Spool) -> None:
    prepared = prepare(Folder.of(folder), spool)
    found = prepared.interests
    clients = prepared.clients.id[found.row].tolist()
    kinds = [NAMES[int(kind)] for kind in found.type]
    labels = zip(found.category_label.tolist(), found.sku_label.tolist(), strict=True)
    # Labels: categories [6, 5], skus [200, 101]. 100 is no label, its category is one.
    assert list(zip(clients, kinds, labels, strict=True)) == [
        (1, "purchase", (1, -1)),
        (1, "cart_add", (1, 1)),
        (2, "cart_remove", (0, 0)),
    ]
    # Both labelled skus' categories have a number; 100 shares that of 101.
    assert found.group[0] == found.group[1] == prepared.catalogue.group_of_label[1]
    assert found.group[2] == prepared.catalogue.group_of_label[0]


def test_rows_in_no_order_of_time_are_counted_and_change_nothing(
    folder: Path, spool: Spool
) -> None:
    straight = prepare(Folder.of(folder), spool)
    assert straight.counts["page_visit"].disordered == 1
    assert straight.counts["product_buy"].disordered == 0
    for name, rows in EVENTS.items():
        write_events(folder, name, rows[::-1])
    with Spool(bits=2) as other:
        reversed_ = prepare(Folder.of(folder), other)
        assert events_of(other, 1) == events_of(spool, 1)
    assert reversed_.counts["product_buy"].disordered == 4
    assert reversed_.windows == straight.windows


def test_order_is_followed_over_batches(
    folder: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.evaluation.recsys2025.files.BATCH_ROWS", 1)
    assert prepare(Folder.of(folder), spool).counts["page_visit"].disordered == 1
    assert len(spool) == 6


def test_an_unknown_sku_names_file_row_and_sku(folder: Path, spool: Spool) -> None:
    rows = [*EVENTS["add_to_cart"], (9, "2022-01-05 00:00:00", 999)]
    write_events(folder, "add_to_cart", rows)
    with pytest.raises(EvaluationError, match=r"add_to_cart\.parquet: row 2 names sku 999"):
        prepare(Folder.of(folder), spool)


def test_a_sku_with_two_rows_of_properties_is_refused(folder: Path, spool: Spool) -> None:
    path = folder / "product_properties.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take([0, 1, 2, 1]), path)
    with pytest.raises(EvaluationError, match="sku 101 is there twice"):
        prepare(Folder.of(folder), spool)


def test_lists_that_do_not_belong_together_are_refused(folder: Path, spool: Spool) -> None:
    np.save(folder / "target" / "popularity_propensity_sku.npy", np.array([0.5]))
    with pytest.raises(
        EvaluationError, match=r"2 labels, and popularity_propensity_sku\.npy has 1"
    ):
        prepare(Folder.of(folder), spool)


def test_relevant_clients_of_another_release_are_noticed(folder: Path, spool: Spool) -> None:
    np.save(folder / "input" / "relevant_clients.npy", np.array([50, 51]))
    with pytest.raises(EvaluationError, match="no relevant client has an event before"):
        prepare(Folder.of(folder), spool)


def test_a_file_without_purchases_ends_nowhere(folder: Path) -> None:
    path = folder / "product_buy.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(EvaluationError, match="no purchase in it"):
        last_purchase(Folder.of(folder))
