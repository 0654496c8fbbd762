"""Stored records: sealed, migrated from older layouts, refused when newer or not as written."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from stream.errors import StateLayoutError, StoreCorrupt
from stream.layout import LAYOUT_VERSION, MIGRATIONS, Layout, indexed_due, seal
from stream.settings import Settings
from stream.state import UserTable
from stream.store_memory import MemoryStore
from stream.testing import PipelineDriver
from tests.logs import DAY, gru_scorer, shop_log

LAYOUT = Layout(ring=8, hidden=4)
BY_LAYOUT_1 = Path(__file__).parent / "files" / "layout1.json"
"""A store as the last release of layout 1 left it, after 80 events of `shop_log(5, 120, 6, 9)`."""
SETTINGS = Settings(
    worker={"clock": "event", "emit": "every"},
    state={"ring": 8, "hidden_size": 64},
    churn={
        "tick_ms": 3_600_000,
        "prior_gap_ms": DAY,
        "raise_at": 0.6,
        "cooldown_ms": DAY,
        "escalate_after_ms": DAY,
    },
)


def by_layout_1() -> MemoryStore:
    saved = json.loads(BY_LAYOUT_1.read_text())
    store = MemoryStore()
    records = [(key.encode(), base64.b64decode(text)) for key, text in saved["records"].items()]
    timers = [(key.encode(), None, due) for due, key in saved["timers"]]
    store.apply(records, timers, saved["changelog_offset"])
    return store


def stored(ring: int = 8, hidden: int = 4, layout: int = LAYOUT_VERSION) -> bytes:
    return seal(np.array([layout, ring, hidden], "<u2").tobytes() + bytes(500))


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
        LAYOUT.body(b"uann", bytes(damaged))


def test_a_record_cut_short_is_found() -> None:
    with pytest.raises(StoreCorrupt):
        LAYOUT.body(b"uann", stored()[:-40])


def test_every_older_layout_has_a_way_to_the_newest() -> None:
    assert sorted(MIGRATIONS) == list(range(1, LAYOUT_VERSION))


def test_a_record_of_layout_1_keeps_all_it_says() -> None:
    store = by_layout_1()
    layout = Layout(8, 64)
    for key, value in store.scan(b"u", 100):
        body = layout.body(key, value)
        assert body[2:] == value[2:]
        assert int.from_bytes(body[:2], "little") == LAYOUT_VERSION
        assert indexed_due(seal(body)) == indexed_due(value)


def test_work_goes_on_over_the_state_of_layout_1_and_ends_the_same() -> None:
    log = shop_log(5, 120, users=6, days=9)
    straight, upgraded = (
        PipelineDriver(gru_scorer(), SETTINGS, store) for store in (None, by_layout_1())
    )
    straight.pipe(log, batch=16)
    assert upgraded.pipeline.source_offset == 80
    upgraded.pipe(log[80:], batch=16)
    assert upgraded.histories() == straight.histories()
    ids = [p.prediction_id for p in upgraded.predictions()]
    assert ids == [p.prediction_id for p in straight.predictions()][80:]
    layouts = {key: value[0] for key, value in upgraded.store.scan(b"u", 100)}
    assert {layouts[b"u" + e.user_id.encode()] for e in log[80:]} == {LAYOUT_VERSION}
