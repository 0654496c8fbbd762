"""The user table: load, change, drain, evict, forget; and what a stored record looks like."""

from __future__ import annotations

import numpy as np
import pytest

from models.history import ENTRY, Events, SessionRules
from models.inputs.apply import apply_in_order
from stream.pipeline.layout import Layout, indexed_due
from stream.pipeline.state import UserTable
from stream.storage.store_memory import MemoryStore

LAYOUT = Layout(ring=8, hidden=4)


def append(table: UserTable, row: int, *times: int) -> None:
    n = len(times)
    events = Events(
        np.array(times, np.int64),
        np.array(times, np.uint64),
        np.ones(n, np.uint8),
        np.zeros(n, np.uint32),
        np.zeros(n, np.uint16),
        np.zeros(n, np.int64),
        np.zeros(n, np.uint32),
        np.ones(n, np.uint32),
    )
    apply_in_order(table.records, np.full(n, row, np.intp), events, SessionRules())
    table.touch(np.array([row]))


def save(table: UserTable, store: MemoryStore, offset: int = 1) -> None:
    changes = table.drain()
    store.apply(changes.puts, changes.timers, offset)
    table.committed()


def test_a_stored_record_is_cut_behind_its_last_event_and_comes_back_equal() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 10)
    (row,) = table.rows([b"uann"])
    append(table, row, 1, 2, 3)
    before = table.records[row].tobytes()
    save(table, store)
    value = store.get(b"uann")
    assert value is not None
    assert len(value) < LAYOUT.fixed + 3 * ENTRY.itemsize
    again = UserTable(LAYOUT, store, 10)
    (row,) = again.rows([b"uann"])
    assert again.records[row].tobytes() == before
    assert again.user_id(int(row)) == "ann"


def test_a_clean_table_drains_nothing() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 10)
    table.rows([b"uann", b"ubob"])
    assert table.drain().puts == []


@pytest.mark.slow
def test_the_table_grows_and_keeps_its_rows() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 10_000)
    keys = [f"u{i}".encode() for i in range(5000)]
    rows = table.rows(keys)
    for row, i in zip(rows.tolist(), range(1, 5001), strict=True):
        append(table, row, i)
    more = table.rows([f"v{i}".encode() for i in range(5000)])
    assert len(set(rows.tolist()) | set(more.tolist())) == 10_000
    assert table.records["last_time"][table.rows(keys)].tolist() == list(range(1, 5001))


def test_eviction_keeps_the_most_recently_used_and_all_that_is_dirty() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 4)
    keys = [f"u{i}".encode() for i in range(8)]
    for i, key in enumerate(keys):
        append(table, int(table.rows([key])[0]), i + 1)
    table.committed()
    assert len(table) == 8
    save(table, store)
    assert len(table) == 3
    rows = table.rows(keys)
    assert table.records["last_time"][rows].tolist() == list(range(1, 9))


def test_a_reused_row_holds_nothing_of_its_last_user() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 0)
    append(table, int(table.rows([b"uann"])[0]), *range(1, 30))
    save(table, store)
    assert len(table) == 0
    rows = table.rows([f"new{i}".encode() for i in range(1024)])
    assert int(table.records["n"][rows].max()) == 0
    assert not table.records["ring"]["id"][rows].any()
    assert table.records["offset"][rows].tolist() == [-1] * 1024


def test_forgetting_writes_a_tombstone_and_clears_the_timer() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 10)
    row = int(table.rows([b"uann"])[0])
    append(table, row, 5)
    table.records["due"][row] = table.records["indexed_due"][row] = 99
    save(table, store)
    assert store.first_due() == 99
    table.forget(row)
    assert table.forgotten(b"uann")
    changes = table.drain()
    assert changes.puts == [(b"uann", None)]
    assert changes.timers == [(b"uann", 99, None)]


def test_a_user_who_comes_back_before_the_drain_replaces_the_tombstone() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 10)
    row = int(table.rows([b"uann"])[0])
    append(table, row, 5)
    table.records["indexed_due"][row] = 99
    save(table, store)
    table.forget(row)
    row = int(table.rows([b"uann"])[0])
    append(table, row, 7)
    changes = table.drain()
    ((key, value),) = changes.puts
    assert key == b"uann"
    assert value is not None
    assert indexed_due(value) is None
    assert changes.timers == [(b"uann", 99, None)]


def test_a_forgotten_user_stays_forgotten_while_the_tombstone_is_on_its_way() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 10)
    append(table, int(table.rows([b"uann"])[0]), 5)
    save(table, store)
    table.forget(int(table.rows([b"uann"])[0]))
    changes = table.drain()
    assert table.forgotten(b"uann")
    row = int(table.rows([b"uann"])[0])
    assert int(table.records["n"][row]) == 0
    store.apply(changes.puts, changes.timers, 2)
    table.committed()
    assert not table.forgotten(b"uann")


def test_moving_a_timer_names_its_old_place() -> None:
    store = MemoryStore()
    table = UserTable(LAYOUT, store, 10)
    row = int(table.rows([b"uann"])[0])
    append(table, row, 5)
    for due in (50, 70):
        table.records["indexed_due"][row] = due
        table.touch(np.array([row]))
        save(table, store)
        assert store.due(1000, 10) == [(due, b"uann")]
    value = store.get(b"uann")
    assert value is not None
    assert indexed_due(value) == 70
