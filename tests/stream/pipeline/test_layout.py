"""Stored records: sealed, migrated from older layouts, refused when newer or not as written."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from xxhash import xxh3_64_digest

from models.history import (
    AMOUNT_UNIT,
    DISCOUNTED,
    ENTRY,
    HEADER,
    LINE,
    ORDER_START,
    REFUND,
    SESSION_START,
    START_UNIT,
    chronological,
)
from models.overflow import Held, Overflow
from stream.config.settings import Settings
from stream.errors import StateLayoutError, StoreCorrupt
from stream.kernels.buffers import joined
from stream.pipeline.due_times import NO_DUE
from stream.pipeline.layout import (
    LAYOUT_VERSION,
    MIGRATIONS,
    Layout,
    indexed_due,
    indexed_dues,
)
from stream.pipeline.old_layouts import (
    fill_from_old,
    fill_from_packed,
    old_dtype,
    old_row,
    packed_dtype,
)
from stream.pipeline.state import UserTable
from stream.storage.store_memory import MemoryStore
from stream.testing import PipelineDriver
from tests.logs import DAY, gru_scorer, shop_log

LAYOUT = Layout(ring=8, hidden=4)
FILES = Path(__file__).parents[1] / "files"
"""Stores as the last release of each layout left them, after 80 events of `shop_log(5, 120, 6, 9)`:
`layout1.json` and so on."""
SETTINGS = Settings(
    worker={"clock": "event", "emit": "every"},
    state={"ring": 8, "hidden_size": 64},
    churn={
        "tick_ms": 3_600_000,
        "prior_gap_ms": DAY,
        "raise_at": 0.6,
        "raise_untrained": True,
        "cooldown_ms": DAY,
        "escalate_after_ms": DAY,
    },
)


def by_layout(number: int) -> MemoryStore:
    saved = json.loads((FILES / f"layout{number}.json").read_text())
    store = MemoryStore()
    records = [(key.encode(), base64.b64decode(text)) for key, text in saved["records"].items()]
    timers = [(key.encode(), None, due) for due, key in saved["timers"]]
    store.apply(records, timers, saved["changelog_offset"])
    return store


def seal(unsealed: bytes) -> bytes:
    return unsealed + xxh3_64_digest(unsealed)


def only_of_lines(entries: np.ndarray) -> None:
    """Leave orders to those entries that are lines of one, and discounts to those that tell one."""
    other = (entries["flags"] & LINE) == 0
    entries["flags"] &= ~(np.uint8(DISCOUNTED) * other).astype(np.uint8)
    for name in ("order", "quantity"):
        entries[name] = np.where(other, 0, entries[name])
    told = (entries["flags"] & DISCOUNTED) != 0
    entries["discount"] = np.where(told, entries["discount"], 0)


def table_of(layout: Layout, rows: int, seed: int = 0) -> np.ndarray:
    """Rows as a table holds them: full of any bytes up to the last used ring slot."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 256, (rows, layout.dtype.itemsize), np.uint8)
    table *= rng.integers(0, 2, table.shape, np.uint8)  # and of zeros
    table *= np.arange(table.shape[1]) % 64 < 32  # and of whole words of them
    records = table.view(layout.dtype)[:, 0]
    records["layout"], records["ring_size"] = LAYOUT_VERSION, layout.ring
    records["hidden_size"] = layout.hidden
    records["n"] = rng.integers(1, 2 * layout.ring + 1, rows)
    records["overflow"] = 0
    for row, n in zip(table, records["n"].tolist(), strict=True):
        row[layout.fixed + min(n, layout.ring) * ENTRY.itemsize :] = 0
    only_of_lines(records["ring"])
    return table


def stored(ring: int = 8, hidden: int = 4, layout: int = LAYOUT_VERSION) -> bytes:
    table = table_of(Layout(ring, hidden), 1)
    table.view("<u2")[0, 0] = layout
    return Layout(ring, hidden).packed(table, np.zeros(1, np.intp))[0]


@pytest.mark.parametrize("hidden", [1, 4, 63, 64])
@pytest.mark.parametrize("ring", [1, 8])
def test_a_stored_record_comes_back_whole(ring: int, hidden: int) -> None:
    layout = Layout(ring, hidden)
    table = table_of(layout, 50, seed=hidden)
    values = layout.packed(table, np.arange(50))
    again = np.zeros_like(table)
    again[:, : layout.fixed] = 7  # what lay there before
    layout.unpack([b"u"] * 50, values, again, np.arange(50))
    assert np.array_equal(again, table)
    dues = table.view(layout.dtype)["indexed_due"][:, 0].tolist()
    assert [indexed_due(value) or 0 for value in values] == dues


def test_the_due_times_of_many_records_are_those_of_each() -> None:
    values = [value for number in MIGRATIONS for _, value in by_layout(number).scan(b"u", 100)]
    never = table_of(LAYOUT, 1)
    never.view(LAYOUT.dtype)["indexed_due"] = 0
    values += [stored(), LAYOUT.packed(never, np.zeros(1, np.intp))[0]]
    data, ends = joined([b"behind ", *values])
    dues = indexed_dues(data, ends[:-1], ends[1:]).tolist()
    assert dues == [indexed_due(value) or NO_DUE for value in values]
    assert NO_DUE in dues
    assert not len(indexed_dues(data, ends[:0], ends[:0]))


@pytest.mark.parametrize(
    "value", [b"", b"\x05\x00", bytes([5]) + bytes(14), bytes([2]) + bytes(30)]
)
def test_what_is_too_short_to_be_a_record_has_no_due_time(value: bytes) -> None:
    data, ends = joined([stored(), value])
    with pytest.raises(StoreCorrupt, match=f"user record has {len(value)} bytes, too few"):
        indexed_dues(data, ends - [len(stored()), len(value)], ends)


@pytest.mark.parametrize(("rebuilt", "longest"), [(5, 5), (100, LAYOUT.ring)])
def test_a_short_history_is_stored_without_the_state_that_is_made_of_it(
    rebuilt: int, longest: int
) -> None:
    table = table_of(LAYOUT, 60)
    records = table.view(LAYOUT.dtype)[:, 0]
    values = LAYOUT.packed(table, np.arange(60), rebuilt)
    for before, after in zip(records, [LAYOUT.row(b"u", value) for value in values], strict=True):
        short = before["n"] <= longest
        for name in LAYOUT.dtype.names:
            gone = short and name in ("hidden", "model")
            want = np.zeros_like(before[name]) if gone else before[name]
            assert after[name].tobytes() == want.tobytes()
    assert 5 < (records["n"] <= longest).sum() < 55


def test_packed_is_what_the_specification_says() -> None:
    table = table_of(LAYOUT, 40)
    due = LAYOUT.places.due
    for row, value in zip(table, LAYOUT.packed(table, np.arange(40)), strict=True):
        head = row[: LAYOUT.fixed].tobytes()
        rest = head[8:due] + bytes(8) + head[due + 8 :]
        n = min(int(row.view(LAYOUT.dtype)["n"][0]), LAYOUT.ring)
        slots = row[LAYOUT.fixed :].view(ENTRY)[:n].copy()
        slots["time"][1:] -= slots["time"][:-1].copy()
        ring = b"".join(packed(s.tobytes()[: size_of(s)]) for s in slots)
        assert value == seal(head[:8] + head[due : due + 8] + packed(rest) + ring)


def size_of(entry: np.void) -> int:
    if entry["flags"] & DISCOUNTED:
        return 48
    return 40 if entry["flags"] & LINE else 32


def packed(data: bytes) -> bytes:
    """Cap'n Proto's packing of words in plain Python."""
    out, zeros = bytearray(), None
    for at in range(0, len(data), 8):
        word = data[at : at + 8]
        if any(word):
            out.append(sum(1 << i for i, byte in enumerate(word) if byte))
            out += bytes(byte for byte in word if byte)
            zeros = None
        elif zeros is None:
            out += b"\0\0"
            zeros = len(out) - 1
        else:
            out[zeros] += 1
    return bytes(out)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (stored(layout=LAYOUT_VERSION + 1), "run the release that wrote it"),
        (stored(ring=16), "set state.ring"),
        (stored(hidden=64), "set state.ring"),
        (b"", "layout 0"),
    ],
)
def test_a_record_of_another_layout_is_refused_with_the_remedy(value: bytes, says: str) -> None:
    store = MemoryStore()
    store.apply([(b"uann", value)], [], 1)
    with pytest.raises(StateLayoutError, match=says):
        UserTable(LAYOUT, store, 10).rows([b"uann"])


@pytest.mark.parametrize("at", [8, 100, -1])
def test_a_flipped_bit_is_found(at: int) -> None:
    damaged = bytearray(stored())
    damaged[at] ^= 4
    with pytest.raises(StoreCorrupt, match="uann"):
        LAYOUT.row(b"uann", bytes(damaged))


def test_a_record_cut_short_is_found() -> None:
    with pytest.raises(StoreCorrupt):
        LAYOUT.row(b"uann", stored()[:-40])


def test_every_older_layout_has_a_way_to_the_newest() -> None:
    assert [by_layout(number).user_count() for number in MIGRATIONS] == [7] * (LAYOUT_VERSION - 1)


@pytest.mark.parametrize("number", [5, 6])
def test_a_packed_record_keeps_all_it_says(number: int) -> None:
    for key, value in by_layout(number).scan(b"u", 100):
        row = Layout(8, 64).row(key, value)
        old = np.zeros(1, packed_dtype(number, 8, 64))[0]
        assert fill_from_packed(old, value, 8, 64) is not None
        for name in set(old.dtype.names) - {"layout", "ring"}:
            assert row[name].tobytes() == old[name].tobytes(), name
        for name in old["ring"].dtype.names:
            assert row["ring"][name].tobytes() == old["ring"][name].tobytes(), name
        assert not row["discount"]
        assert not row["ring"]["discount"].any()


def test_a_record_of_layout_5_gets_the_starts_that_follow() -> None:
    for key, value in by_layout(5).scan(b"u", 100):
        row = Layout(8, 64).row(key, value)
        back = row["ring"]["amount"][row["ring"]["type"] == REFUND].astype(np.float64)
        assert int(row["refunded"]) == round(float(back.sum()) * AMOUNT_UNIT)
        known = {int(row["past_order"]), int(row["first_purchase"])} - {0}
        if int(row["past_orders"]):
            starts = row["past_starts"][row["past_starts"] > 0].tolist()
            assert starts == sorted((time // START_UNIT for time in known), reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 5))
def test_an_older_record_keeps_all_it_says(number: int) -> None:
    store = by_layout(number)
    layout = Layout(8, 64)
    for key, value in store.scan(b"u", 100):
        row = layout.row(key, value)
        assert int(row["layout"]) == LAYOUT_VERSION
        old = old_row(value, 8, 64)
        assert old is not None
        for name in set(old.dtype.names) - {"layout", "reserved", "ring"}:
            assert np.array_equal(row[name], old[name]), name
        flags = row["ring"]["flags"] & ~np.uint8(LINE)
        assert flags.tolist() == old["ring"]["flags"].tolist()
        for name in ("time", "id", "item", "session_age", "amount", "category", "type"):
            assert row["ring"][name].tolist() == old["ring"][name].tolist()
        if number < 3:  # not packed
            body = value if number == 1 else value[:-8]
            assert old.tobytes()[2 : len(body)] == body[2:]
        assert int(row["n"]) > 0
        assert indexed_due(value) == (int(row["indexed_due"]) or None)


def test_an_older_ring_is_sorted_as_rings_are_now() -> None:
    """At one time refunds come last; before layout 5 ids alone decided."""
    old = np.zeros(1, old_dtype(4, 4))[0]
    old["n"], old["last_time"], old["last_id"] = 6, 200, 8
    for slot, entry in enumerate([(200, 7, 7), (200, 8, 6), (100, 4, 7), (100, 5, 1)]):
        ring = old["ring"][slot]
        ring["time"], ring["id"], ring["type"] = entry
    old["ring"]["flags"][[1, 2]] = ORDER_START, SESSION_START
    row = np.zeros(1, Layout(4, 4).dtype)[0]
    fill_from_old(row, old)
    entries = chronological(row)
    assert entries["id"].tolist() == [5, 4, 8, 7]
    assert (entries["flags"] & ~np.uint8(LINE)).tolist() == [SESSION_START, 0, ORDER_START, 0]
    assert int(row["last_id"]) == 7


def crowd(layout: Layout, rows: int, seed: int = 0) -> tuple[np.ndarray, Overflow]:
    """A table of which every second row holds entries beyond its ring."""
    rng = np.random.default_rng(seed)
    table, overflow = table_of(layout, rows), Overflow(rows)
    records = table.view(layout.dtype)[:, 0]
    for row in range(0, rows, 2):
        records["n"][row] = 500
        count = int(rng.integers(1, 400))
        entries = rng.integers(0, 256, (count, ENTRY.itemsize), np.uint8).view(ENTRY)[:, 0]
        only_of_lines(entries)
        overflow.put(records, row, Held(entries, int(rng.integers(2**40))))
    return table, overflow


@pytest.mark.slow
def test_what_is_beyond_the_ring_comes_back_whole() -> None:
    table, overflow = crowd(LAYOUT, 30)
    records = table.view(LAYOUT.dtype)[:, 0]
    values = LAYOUT.packed(table, np.arange(30), overflow=overflow)
    again = np.zeros_like(table)
    found = LAYOUT.unpack([b"u"] * 30, values, again, np.arange(30))
    assert np.array_equal(again[:, : LAYOUT.fixed], table[:, : LAYOUT.fixed])
    assert sorted(found) == list(range(0, 30, 2))
    for row, held in found.items():
        want = overflow.of(records, row)
        assert held.entries.tobytes() == want.entries.tobytes()
        assert held.purchase == want.purchase


def test_damage_beyond_the_ring_is_found() -> None:
    table, overflow = crowd(LAYOUT, 2)
    (value,) = LAYOUT.packed(table, np.zeros(1, np.intp), overflow=overflow)
    for damaged in (value[:-8], value[:-9] + value[-8:], seal(value[:-20]), seal(value)):
        with pytest.raises(StoreCorrupt, match="damaged"):
            LAYOUT.row(b"uann", damaged)


def test_layout_3_is_unpacked_to_what_layout_4_is() -> None:
    older = by_layout(3)
    for key, value in by_layout(4).scan(b"u", 100):
        was = older.get(key)
        assert was is not None
        assert Layout(8, 64).row(key, was) == Layout(8, 64).row(key, value)
        assert len(value) < len(was)


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6])
def test_damage_of_an_older_layout_is_found(number: int) -> None:
    for key, value in by_layout(number).scan(b"u", 100):
        for damaged in (value[:60], value[:-1], value[:50] + bytes([value[50] ^ 1]) + value[51:]):
            with pytest.raises(StoreCorrupt, match="seal does not fit"):
                Layout(8, 64).row(key, damaged)


def told(driver: PipelineDriver) -> dict[str, list[bytes]]:
    """What histories hold, but for orders and refunds: older layouts did not keep all of them."""
    known = [
        name
        for name, *_ in HEADER
        if "order" not in name and not name.startswith("past_") and name != "refunded"
    ]
    line = [name for name in ENTRY.names or () if name not in ("flags", "quantity")]
    return {
        user: [record[name].tobytes() for name in known]
        + [record["ring"][name].tobytes() for name in line]
        for user, record in driver.records().items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("number", MIGRATIONS)
def test_work_goes_on_over_the_state_of_an_older_layout_and_ends_the_same(number: int) -> None:
    log = shop_log(5, 120, users=6, days=9)
    straight, upgraded = (
        PipelineDriver(gru_scorer(), SETTINGS, store) for store in (None, by_layout(number))
    )
    straight.pipe(log, batch=16)
    assert upgraded.pipeline.source_offset == 80
    upgraded.pipe(log[80:], batch=16)
    assert told(upgraded) == told(straight)
    ids = [p.prediction_id for p in upgraded.predictions()]
    assert ids == [p.prediction_id for p in straight.predictions()][80:]
    layouts = {key: value[0] for key, value in upgraded.store.scan(b"u", 100)}
    assert {layouts[b"u" + e.user_id.encode()] for e in log[80:]} == {LAYOUT_VERSION}
